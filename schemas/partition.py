"""Which partition a device belongs to: murmur2 of its id, as Kafka's own default partitioner would choose."""

from typing import Final

_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_MASK: Final = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Kafka's murmur2 (org.apache.kafka.common.utils.Utils.murmur2) as an unsigned 32-bit number."""
    n = len(data)
    h = (_SEED ^ n) & _MASK
    whole = n & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if n & 3:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def partition_of(device: bytes, partitions: int) -> int:
    """The partition of every `telemetry.*` topic that holds this device."""
    return (murmur2(device) & 0x7FFFFFFF) % partitions
