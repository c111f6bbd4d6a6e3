"""Ports on the loopback: the usual one when it is free, else any."""

import random
import socket
from collections.abc import Sequence
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_RANGE: Final = range(20_000, 32_768)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free(count: int = 1) -> list[int]:
    """Different free ports, below those that the kernel gives to outgoing connections: a service that is started again
    must not find that a client of another has taken its port meanwhile."""
    held: list[socket.socket] = []
    if not count:
        return []
    try:
        for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
            one = socket.socket()
            held.append(one)
            try:
                one.bind((LOOPBACK, port))
            except OSError:
                held.pop().close()
            if len(held) == count:
                return [found.getsockname()[1] for found in held]
        raise OSError(f"no {count} free ports in {_RANGE}")
    finally:
        for one in held:
            one.close()


def allocate(usual: Sequence[int], more: int) -> tuple[list[int], list[int]]:
    """(the usual ports, each replaced where it is taken, `more` others): all different."""
    wanted = [port if is_free(port) else None for port in usual]
    spare = iter(free(wanted.count(None) + more))
    return [next(spare) if port is None else port for port in wanted], list(spare)
