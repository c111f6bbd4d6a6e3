import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import ContractError
from schemas.topics import parse_uplink
from streams.access.core.topics import NO_CHANNEL, parse

devices = st.sampled_from(["a", "b", "sensor-1", "x" * 64])
oddities = st.text("abd/+#. é-\0", max_size=12)
topics = st.one_of(
    st.builds("d/{}/telemetry/{}".format, devices, st.sampled_from(["climate", "motor", "a b", "", "é", "x/y"])),
    st.builds("d/{}/event/{}".format, devices, st.sampled_from(["offline", "door", "*"])),
    st.builds("d/{}/{}".format, devices, st.sampled_from(["config", "telemetry", "control/m/on", "reply/7"])),
    st.builds("d/{}/telemetry/{}".format, oddities, oddities),
    oddities,
)


@settings(max_examples=150)
@given(st.lists(st.tuples(devices, topics), max_size=30))
def test_a_batch_says_what_the_grammar_says_topic_by_topic(rows: list[tuple[str, str]]) -> None:
    names = pa.array(["q", *(d for d, _ in rows)], pa.string()).slice(1)
    found = parse(names, pa.array(["d/q/telemetry/q", *(t for _, t in rows)], pa.string()).slice(1))
    for row, (device, topic) in enumerate(rows):
        code = int(found.channel[row])
        channel = None if code == NO_CHANNEL else found.words[code]
        try:
            uplink = parse_uplink(topic)
        except ContractError:
            assert row in found.wrong and found.wrong[row].startswith("topic: ") and channel is None
            continue
        assert row not in found.wrong
        assert (row in found.forged) == (uplink.device != device)
        assert channel == (uplink.names[0] if uplink.branch == "telemetry" else None)
        assert (row in found.other) == (uplink.branch != "telemetry")
