"""What every service declares to Prometheus. Only the command may know every service."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Final

from prometheus_client.metrics import MetricWrapperBase

import streams
from monitoring.dashboards.model import Family

_EVERY: Final = ("runtime.probes", "runtime.certificates")
_STAGE: Final = "runtime.stage.metrics"
_SERVICES: Final[Mapping[str, tuple[str, ...]]] = {
    "bridge": ("bridge.metrics", "bridge.mqtt.metrics"),
    "bridge-http": ("bridge.metrics", "bridge.http.metrics"),
    "relay": ("control.relay.metrics",),
    "sink": ("sinks.metrics",),
    "watch": ("monitoring.watch.metrics",),
    "notify": ("monitoring.notify.metrics",),
}


def services() -> dict[str, list[Family]]:
    """The metrics of each service, those of every service last."""
    found = dict(_SERVICES)
    for stage in pkgutil.iter_modules(streams.__path__):
        own = f"streams.{stage.name}.metrics"
        found[stage.name] = (own, _STAGE) if importlib.util.find_spec(own) else (_STAGE,)
    return {name: [f for m in (*modules, *_EVERY) for f in families(m)] for name, modules in found.items()}


def families(module: str) -> list[Family]:
    """The metrics that a module declares, in its order."""
    found = importlib.import_module(module)
    later = getattr(found, "DELAYS", {})  # of the sink: made when it begins, not when its module is imported
    return [*_declared(found), *(Family(name, "histogram", meaning) for name, meaning in later.values())]


def _declared(module: ModuleType) -> list[Family]:
    collectors = [value for value in vars(module).values() if isinstance(value, MetricWrapperBase)]
    return [
        Family(metric.name, metric.type, metric.documentation, tuple(collector._labelnames))
        for collector in collectors
        for metric in collector.describe()
    ]
