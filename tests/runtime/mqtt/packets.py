"""Hypothesis strategies for every packet of MQTT, in both versions."""

from typing import Any

from hypothesis import strategies as st

from runtime.mqtt import V5, V311, PacketType
from runtime.mqtt import packets as p
from runtime.mqtt.properties import TABLE, WILL, Kind

versions = st.sampled_from([V5, V311])
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
ids = st.integers(1, 65_535)
bytes_ = st.integers(0, 255)
topics = st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=20).map(
    str.encode
)
filters = texts.filter(bool)

VALUES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.BYTE: bytes_,
    Kind.TWO: st.integers(0, 65_535),
    Kind.FOUR: st.integers(0, 2**32 - 1),
    Kind.VARINT: st.integers(1, 268_435_455),
    Kind.TEXT: texts,
    Kind.BINARY: st.binary(max_size=20),
    Kind.PAIR: st.tuples(texts, texts),
}


def properties(packet: int, version: int) -> st.SearchStrategy[dict[str, Any]]:
    if version != V5:
        return st.just({})
    optional = {}
    for one in TABLE:
        if packet in one.packets:
            value = VALUES[one.kind]
            repeats = one.name in ("user_property", "subscription_identifier")
            optional[one.name] = st.lists(value, min_size=1, max_size=3).map(tuple) if repeats else value
    return st.fixed_dictionaries({}, optional=optional)


@st.composite
def wills(draw: st.DrawFn, version: int) -> p.Will:
    return p.Will(
        draw(topics), draw(st.binary(max_size=20)), draw(st.integers(0, 2)), draw(st.booleans()),
        draw(properties(WILL, version)),
    )  # fmt: skip


@st.composite
def connects(draw: st.DrawFn, version: int) -> p.Connect:
    username = draw(st.none() | texts)
    password = draw(st.none() | st.binary(max_size=20)) if username is not None or version == V5 else None
    return p.Connect(
        draw(texts), draw(st.booleans()), draw(st.integers(0, 65_535)), username, password,
        draw(st.none() | wills(version)), draw(properties(PacketType.CONNECT, version)), version,
    )  # fmt: skip


@st.composite
def publishes(draw: st.DrawFn, version: int) -> p.Publish:
    qos = draw(st.integers(0, 2))
    return p.Publish(
        draw(topics), draw(st.binary(max_size=300)), qos, draw(ids) if qos else 0, draw(st.booleans()),
        draw(st.booleans()) if qos else False, draw(properties(PacketType.PUBLISH, version)),
    )  # fmt: skip


@st.composite
def acks(draw: st.DrawFn, version: int) -> p.Packet:
    make, kind = draw(
        st.sampled_from(
            [
                (p.Puback, PacketType.PUBACK),
                (p.Pubrec, PacketType.PUBREC),
                (p.Pubrel, PacketType.PUBREL),
                (p.Pubcomp, PacketType.PUBCOMP),
            ]
        )
    )
    reason = draw(bytes_) if version == V5 else 0
    return make(draw(ids), reason, draw(properties(kind, version)))


@st.composite
def subscribes(draw: st.DrawFn, version: int) -> p.Subscribe:
    flag = st.booleans() if version == V5 else st.just(False)
    one = st.builds(
        p.Subscription, filters, st.integers(0, 2), flag, flag, st.integers(0, 2) if version == V5 else st.just(0)
    )
    found = draw(st.lists(one, min_size=1, max_size=3).map(tuple))
    return p.Subscribe(draw(ids), found, draw(properties(PacketType.SUBSCRIBE, version)))


@st.composite
def others(draw: st.DrawFn, version: int) -> p.Packet:
    def of(kind: PacketType) -> dict[str, Any]:
        return draw(properties(kind, version))

    codes = draw(st.lists(bytes_, min_size=1, max_size=3).map(tuple))
    choice = draw(st.integers(0, 7 if version == V5 else 5))
    match choice:
        case 0:
            return p.Connack(draw(st.booleans()), draw(bytes_), of(PacketType.CONNACK))
        case 1:
            return p.Suback(draw(ids), codes, of(PacketType.SUBACK))
        case 2:
            found = draw(st.lists(filters, min_size=1, max_size=3).map(tuple))
            return p.Unsubscribe(draw(ids), found, of(PacketType.UNSUBSCRIBE))
        case 3:
            return p.Unsuback(draw(ids), codes if version == V5 else (), of(PacketType.UNSUBACK))
        case 4:
            return draw(st.sampled_from([p.Pingreq(), p.Pingresp()]))
        case 5:
            return p.Disconnect(draw(bytes_) if version == V5 else 0, of(PacketType.DISCONNECT))
        case _:
            return p.Auth(draw(bytes_), of(PacketType.AUTH))


def packets(version: int) -> st.SearchStrategy[p.Packet]:
    return connects(version) | publishes(version) | acks(version) | subscribes(version) | others(version)
