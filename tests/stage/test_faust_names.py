"""The names inside Faust and aiokafka that faust_app.py overrides or calls: none may vanish silently."""

import inspect
from importlib.metadata import version

import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust import App
from faust.app.base import BootStrategy
from faust.tables.recovery import Recovery
from faust.transport.drivers import aiokafka as driver

from runtime.errors import RefusedError
from runtime.kafka.clients import common
from runtime.settings import KafkaSettings
from runtime.stage import faust_app


def test_the_versions_are_the_ones_that_were_read() -> None:
    assert version("faust-streaming") == "0.15.3"
    assert version("aiokafka").startswith("0.14.")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (driver.Consumer, "_new_consumer_thread"),
        (driver.Consumer, "_drain_messages"),
        (driver.Consumer, "getmany"),
        (driver.Consumer, "wait_first"),
        (driver.Consumer, "ack"),
        (driver.Consumer, "commit"),
        (driver.Consumer, "wait_empty"),
        (driver.Consumer, "perform_seek"),
        (driver.Consumer, "seek_wait"),
        (driver.Consumer, "on_partitions_revoked"),
        (driver.Consumer, "on_buffer_full"),
        (driver.Consumer, "on_buffer_drop"),
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
        (driver.AIOKafkaConsumerThread, "_ensure_consumer"),
        (driver.AIOKafkaConsumerThread, "_commit"),
        (driver.AIOKafkaConsumerThread, "call_thread"),
        (App, "_new_transport"),
        (App, "_create_directories"),
        (App, "_crash"),
        (BootStrategy, "enable_kafka_producer"),
        (GroupCoordinator, "check_errors"),
    ],
)
def test_a_name_is_still_there(owner: type, name: str) -> None:
    assert hasattr(owner, name)


def test_what_is_relied_on_is_still_done() -> None:
    thread = inspect.getsource(driver.AIOKafkaConsumerThread)
    assert "partition_assignment_strategy=[self._assignor]" in thread
    assert "fetch_max_wait_ms=1500" in thread
    drain = inspect.getsource(driver.Consumer._drain_messages)
    assert "self.wait_first(" in drain and "callback(message), self.suspend_flow.wait()" in drain
    resume = inspect.getsource(Recovery._resume_streams)
    assert resume.index("on_rebalance_complete.send") < resume.index("perform_seek") < resume.index("resume_flow")
    assert "del self._records[tp]" in inspect.getsource(Fetcher.seek_to)  # also drops "no committed offset" errors
    assert "wait_empty" in inspect.getsource(App._on_partitions_revoked) + inspect.getsource(App._consumer_wait_empty)


def test_security_properties_become_credentials(tmp_path: object) -> None:
    assert faust_app.credentials(common(KafkaSettings())) is None
    sasl = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p"}
    found = faust_app.credentials(sasl)
    assert (found.username, found.password, found.ssl_context is not None) == ("u", "p", True)
    assert faust_app.credentials({"security.protocol": "ssl"}).context is not None
    with pytest.raises(RefusedError, match="is not known here"):
        faust_app.credentials({"security.protocol": "kerberos"})
