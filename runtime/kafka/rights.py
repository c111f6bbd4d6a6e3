"""Who may do what in Kafka, a line a service: the access lists that `millrace init` keeps.

A service is known, where Kafka asks for certificates, by the CN of its own, `millrace.{service}`. What is not listed is
refused (`allow.everyone.if.no.acl.found=false`). To read or write a topic includes asking what it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from runtime.errors import RetryableError
from runtime.kafka.applied import PREFIX
from runtime.kafka.clients import READER
from schemas.topics import CONTROL, DERIVED, FACTS, RAW, READINGS, STAGES, source_of, state_topic

_TIMEOUT_S: Final = 15.0
CONTROL_TRANSACTION: Final = "millrace-control"
"""The one transactional.id of whoever changes platform.control: see control/log.py."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Topics a service reads, writes and may ask about, consumer groups it joins, and groups it may ask about."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    watches: tuple[str, ...] = ()
    own_groups: str = ""
    """Prefix of groups in which it publishes what it has applied."""
    watches_prefix: str = ""
    """Prefix of groups that it may ask about."""
    transactions: tuple[str, ...] = ()
    """Transactional ids it may use."""


def _stage(name: str) -> Rights:
    """A stage reads its outputs, too: at a take-over it looks how far they go."""
    source = source_of(name)
    own = (*STAGES[name], state_topic(name))
    return Rights((FACTS, source, *own), own, (RAW,), (name, READER))


RIGHTS: Final[dict[str, Rights]] = {
    "relay": Rights((FACTS, CONTROL), (CONTROL, RAW), (), ("millrace-relay", READER), (), PREFIX + "relay."),
    "bridge": Rights((FACTS,), (RAW,), (), (READER,)),
    "bridge-http": Rights((FACTS, CONTROL), (RAW,), (), (READER,), (), PREFIX + "bridge-http."),
    **{name: _stage(name) for name in STAGES},
    "sink": Rights((FACTS, RAW, READINGS, *DERIVED), (), (), ("millrace-sink", READER)),
    "watch": Rights(
        asks=(FACTS, CONTROL, RAW, READINGS, *DERIVED, *map(state_topic, STAGES)),
        watches=("millrace-relay", "millrace-sink", *STAGES),
    ),
    "operator": Rights(
        (FACTS, CONTROL, RAW, READINGS, *DERIVED),
        (FACTS, CONTROL, RAW),
        (),
        (READER, "millrace-sink"),
        watches_prefix=PREFIX,
        transactions=(CONTROL_TRANSACTION,),
    ),
}
"""`operator` is whoever works with the command `millrace`: decides (platform.control, platform.facts) and replays
(telemetry.raw)."""

SUPER: Final = ("kafka", "init")
"""Principals that may do everything: the brokers among themselves, and `millrace init`, which makes topics and this."""


def principal(service: str) -> str:
    return f"millrace.{service}"


def bindings(service: str, rights: Rights) -> Iterator[AclBinding]:
    """The access list of one service."""
    for topic in rights.reads:
        yield _allow(service, ResourceType.TOPIC, topic, AclOperation.READ)
    for topic in rights.writes:
        yield _allow(service, ResourceType.TOPIC, topic, AclOperation.WRITE)
    for topic in rights.asks:
        yield _allow(service, ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    for group in rights.groups:
        yield _allow(service, ResourceType.GROUP, group, AclOperation.READ)
    for group in rights.watches:
        yield _allow(service, ResourceType.GROUP, group, AclOperation.DESCRIBE)
    if rights.own_groups:
        yield _allow(service, ResourceType.GROUP, rights.own_groups, AclOperation.READ, ResourcePatternType.PREFIXED)
    if rights.watches_prefix:
        yield _allow(
            service, ResourceType.GROUP, rights.watches_prefix, AclOperation.DESCRIBE, ResourcePatternType.PREFIXED
        )
    for name in rights.transactions:
        for operation in (AclOperation.WRITE, AclOperation.DESCRIBE):
            yield _allow(service, ResourceType.TRANSACTIONAL_ID, name, operation)


def _allow(
    service: str,
    kind: ResourceType,
    name: str,
    operation: AclOperation,
    pattern: ResourcePatternType = ResourcePatternType.LITERAL,
) -> AclBinding:
    return AclBinding(kind, name, pattern, f"User:{principal(service)}", "*", operation, AclPermissionType.ALLOW)


def ensure(admin: AdminClient) -> tuple[int, int]:
    """Make Kafka's access lists those of RIGHTS: (made, removed). What other principals have is left alone.

    Raises RetryableError while Kafka does not answer, or keeps no access lists.
    """
    wanted = {binding for service, rights in RIGHTS.items() for binding in bindings(service, rights)}
    ours = {f"User:{principal(service)}" for service in RIGHTS}
    everything = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    try:
        found = set(admin.describe_acls(everything, request_timeout=_TIMEOUT_S).result(_TIMEOUT_S))
        new = [binding for binding in wanted if binding not in found]
        old = [binding for binding in found if binding.principal in ours and binding not in wanted]
        for future in admin.create_acls(new, request_timeout=_TIMEOUT_S).values() if new else ():
            future.result(_TIMEOUT_S)
        exact = [_filter(binding) for binding in old]
        for future in admin.delete_acls(exact, request_timeout=_TIMEOUT_S).values() if exact else ():
            future.result(_TIMEOUT_S)
    except KafkaException as error:
        raise RetryableError(f"cannot set Kafka's access lists: {error.args[0].str()}") from error
    return len(new), len(old)


def _filter(found: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        found.restype,
        found.name,
        found.resource_pattern_type,
        found.principal,
        found.host,
        found.operation,
        found.permission_type,
    )
