"""Kafka with TLS and access lists."""

from pathlib import Path

from identity.keys import make
from local.engines.kafka import Kafka
from local.ports import free
from runtime.settings import KafkaSettings
from tests.servers import KafkaServer

SECURE = """
listeners=PLAINTEXT://127.0.0.1:{plain},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SECURE://localhost:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SECURE:SSL,CONTROLLER:SSL
inter.broker.listener.name=SECURE
ssl.keystore.type=PEM
ssl.keystore.location={keys}/kafka/node.pem
ssl.truststore.type=PEM
ssl.truststore.location={keys}/kafka/ca.pem
ssl.client.auth=required
ssl.endpoint.identification.algorithm=
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:millrace.kafka;User:millrace.init
"""


class Secure:
    """A broker that asks for certificates. `plain` is there to be refused, and for the test to see it start."""

    def __init__(self, folder: Path) -> None:
        self.keys = folder / "keys"
        make(self.keys, ("localhost",))
        plain, controller, secure = free(3)
        more = SECURE.format(plain=plain, controller=controller, secure=secure, keys=self.keys)
        self.server = KafkaServer(folder)
        self.server.engine = Kafka(folder / "kafka", plain, controller, more=more)
        self.plain, self.secure = f"127.0.0.1:{plain}", f"localhost:{secure}"

    def settings(self, service: str) -> KafkaSettings:
        """As the container has them, with the folder of its keys in place of /keys."""
        found = (self.keys / service / "kafka.properties").read_text()
        own = self.keys.parent / f"{service}.properties"
        own.write_text(found.replace("/keys/", f"{self.keys}/{service}/"))
        return KafkaSettings(kafka_bootstrap=self.secure, kafka_security=own)
