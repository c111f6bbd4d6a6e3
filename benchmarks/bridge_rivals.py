"""What one would write first: gmqtt bridges that produce a Kafka record a message.

    python -m benchmarks.bridge_rivals honest|careless SOCKET USER PASSWORD BOOTSTRAP MESSAGES

honest    optimistic_acknowledgement off; the handler is a coroutine that awaits Kafka's delivery report
careless  gmqtt as it comes: the PUBACK leaves before the handler runs; what Kafka has not yet is lost by a kill
Prints `ready`, and `done` when all messages are in Kafka.
"""

import asyncio
import os
import sys
from typing import Any

import uvloop
from confluent_kafka import Producer
from gmqtt import Client
from gmqtt.mqtt.connection import MQTTConnection
from gmqtt.mqtt.protocol import MQTTProtocol


class UnixClient(Client):
    """gmqtt over a unix socket, otherwise as it comes."""

    path = ""

    async def _create_connection(self, host: Any, port: Any, ssl: Any, clean_session: Any, keepalive: Any) -> Any:
        self._exit_reconnecting_state()
        self._connack_received.clear()
        self._connection_lost.clear()
        made = await asyncio.get_running_loop().create_unix_connection(
            lambda: MQTTProtocol(
                connection_state=self._connection_state, id_generator=self._package_handler.id_generator
            ),
            self.path,
        )
        return MQTTConnection(*made, clean_session, keepalive, package_handler=self._package_handler)


class Rival:
    def __init__(self, bootstrap: str, messages: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.left = messages
        self.done = asyncio.Event()
        self.producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, "compression.type": "lz4"}
            | {"queue.buffering.max.messages": 1_000_000}
        )

    async def honest(self, client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        future = self.loop.create_future()
        key = topic.split("/", 2)[1]
        self.producer.produce("rival", payload, key, on_delivery=lambda error, message: future.set_result(error))
        self._one(await future)
        return 0

    def careless(self, client: Any, topic: str, payload: bytes, qos: int, properties: Any) -> int:
        self.producer.produce("rival", payload, topic.split("/", 2)[1], on_delivery=lambda error, _: self._one(error))
        return 0

    def _one(self, error: Any) -> None:
        if error is not None:
            os._exit(1)
        self.left -= 1
        if not self.left:
            self.done.set()

    async def poll(self) -> None:
        while True:
            self.producer.poll(0)
            await asyncio.sleep(0.002)


async def main(kind: str, path: str, user: str, password: str, bootstrap: str, messages: int) -> None:
    rival = Rival(bootstrap, messages)
    client = UnixClient(f"rival-{kind}", optimistic_acknowledgement=kind == "careless", receive_maximum=20_000)
    client.path = path
    client.set_auth_credentials(user, password)
    client.on_message = rival.honest if kind == "honest" else rival.careless
    client.on_subscribe = lambda *_: print("ready", flush=True)
    await client.connect("unused", keepalive=60)
    client.subscribe("d/#", qos=1)
    task = asyncio.ensure_future(rival.poll())
    await rival.done.wait()
    print("done", flush=True)
    await asyncio.sleep(60)
    task.cancel()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:6], int(sys.argv[6])))
