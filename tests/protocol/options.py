"""What happens in a schedule, and which rule is broken on purpose."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """`messages` of two devices, `steps` of the schedule; the rest are faults that may happen, and the mutant."""

    messages: int = 14
    steps: int = 180
    kill: bool = True
    zombies: bool = True
    seq: bool = True
    reorder: bool = False
    end_to_end: bool = False
    broker_crash: bool = False
    relay_zombie: bool = False
    clock_jump: bool = False
    late_insert: bool = False
    window: int = 1_000_000
    noise: int = 0
    replay: int = 0
    upgrade: bool = False
    retention: bool = False
    recreate: bool = False
    commits_expire: bool = False
    mutant: str = ""
