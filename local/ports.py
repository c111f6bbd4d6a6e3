"""Ports on the loopback: the usual one when it is free, else any."""

import random
import socket
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import orjson

LOOPBACK: Final = "127.0.0.1"
_RANGE: Final = range(20_000, 32_768)
_promises: Final[list[socket.socket]] = []


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def take(port: int) -> bool:
    """Whether the port is free and promised to nobody; from now on it is promised to this process, until that ends.

    Without the promise two platforms that start at once choose the same port, one gets it, and the services of both
    talk to its Kafka. A promise is a socket in Linux's abstract namespace: it needs no file, and ends with its holder.
    """
    promise = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        promise.bind(f"\0millrace/port/{port}")
    except OSError:
        promise.close()
        return False
    if not is_free(port):
        promise.close()
        return False
    _promises.append(promise)
    return True


def free(count: int = 1) -> list[int]:
    """Different free ports, below those that the kernel gives to outgoing connections: a service that is started again
    must not find that a client of another has taken its port meanwhile. They are promised to this process."""
    found = list(islice(filter(take, random.SystemRandom().sample(_RANGE, len(_RANGE))), count))
    if len(found) < count:
        raise OSError(f"no {count} free ports in {_RANGE}")
    return found


def remembered(file: Path, usual: Mapping[str, int]) -> dict[str, int]:
    """The ports that the platform had at its last start, by name; of what had none, the usual one."""
    try:
        found = orjson.loads(file.read_bytes())
        return {name: int(found.get(name, port)) for name, port in usual.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return dict(usual)


def allocate(usual: Sequence[int], more: int) -> tuple[list[int], list[int]]:
    """(the usual ports, each replaced where it is taken, `more` others): all different, promised to this process."""
    wanted = [port if take(port) else None for port in usual]
    spare = iter(free(wanted.count(None) + more))
    return [next(spare) if port is None else port for port in wanted], list(spare)
