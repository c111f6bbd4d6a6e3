"""The real bridge-http process in front of the bridges' Kafka, and devices that are enrolled."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from identity.registry.store import DeviceRegistry
from local.ports import free
from runtime.settings import KafkaSettings
from schemas.control import Device as Enrolled
from tests.bridge.http.client import Device
from tests.bridge.processes import Service, wait
from tests.servers import KafkaServer


class HttpService(Service):
    """`python -m bridge.http`; `listen` is the port for devices."""

    def __init__(self, spine: KafkaServer, folder: pytest.TempPathFactory, **settings: object) -> None:
        (self.listen,) = free()
        chosen: dict[str, object] = {"linger_ms": 5, "body_timeout_s": 1.5, "device_requests_per_s": 10_000}
        super().__init__(
            "bridge.http",
            folder.mktemp("http"),
            kafka_bootstrap=spine.bootstrap,
            listen=f"127.0.0.1:{self.listen}",
            **chosen | settings,
        )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def rss_mb(self) -> float:
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * 4096 / 1e6

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


Make = Callable[..., HttpService]


@pytest.fixture(scope="package")
def make(spine: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Starts a service with settings of its own."""
    made: list[HttpService] = []

    def start(**settings: object) -> HttpService:
        service = HttpService(spine, tmp_path_factory, **settings)
        made.append(service)
        service.start()
        return service

    yield start
    for service in made:
        service.kill()


@pytest.fixture(scope="package")
def service(make: Make) -> HttpService:
    return make()


@pytest.fixture(scope="package")
def registry(spine: KafkaServer) -> DeviceRegistry:
    return DeviceRegistry(KafkaSettings(kafka_bootstrap=spine.bootstrap))


_numbers = count()


@pytest.fixture
def enrol(registry: DeviceRegistry) -> Iterator[Callable[[HttpService], Device]]:
    """Enrols a device and waits until the service knows it."""
    devices: list[Device] = []

    def one(service: HttpService) -> Device:
        name = f"http-{next(_numbers)}"
        before = service.metric("millrace_http_devices")
        token = registry.register([Enrolled(name, "meter")])[name]
        wait(lambda: service.metric("millrace_http_devices") > before, "the registry to reach the service")
        device = Device(service.listen, name, token)
        devices.append(device)
        return device

    yield one
    for device in devices:
        device.__exit__()


@pytest.fixture
def device(service: HttpService, enrol: Callable[[HttpService], Device]) -> Device:
    return enrol(service)
