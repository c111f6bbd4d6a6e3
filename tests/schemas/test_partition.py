from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from schemas.partition import murmur2, partition_of


def test_murmur2_equals_kafkas_own_vectors() -> None:
    # org.apache.kafka.common.utils.UtilsTest.testMurmur2
    vectors = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    for data, expected in vectors.items():
        assert murmur2(data) == expected & 0xFFFFFFFF


def _librdkafkas_choices(keys: list[bytes], partitions: int) -> list[int]:
    """Where librdkafka's `murmur2_random` partitioner puts each key, on its own mock cluster."""
    producer = Producer(
        {
            "bootstrap.servers": "unused",
            "test.mock.num.brokers": 1,
            "partitioner": "murmur2_random",
            "topic.metadata.refresh.sparse": True,
        }
    )
    chosen: dict[bytes, int] = {}
    for key in keys:
        producer.produce("t", key=key, on_delivery=lambda _, m: chosen.__setitem__(m.key(), m.partition()))
    assert producer.flush(20) == 0
    return [chosen[key] for key in keys]


def test_partition_equals_librdkafkas_murmur2_random() -> None:
    keys = [f"device-{i}".encode() for i in range(300)] + [b"x" * n for n in range(1, 64)]
    count = len(set(_librdkafkas_choices(keys, 4)))
    assert count > 1
    assert [partition_of(key, 4) for key in keys] == _librdkafkas_choices(keys, 4)


@given(st.binary(max_size=64), st.integers(1, 1000))
def test_partition_is_in_range(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions
