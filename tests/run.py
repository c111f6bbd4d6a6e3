"""`make test`: all tests beside each other, then alone those that failed. Being alone excuses nothing.

A test that fails beside others and passes alone depends on something that it should not: the machine's speed, a port,
what another test left behind. It is reported and fails the run, unless tests/flaky.txt names it with the reason.

    python -m tests.run [arguments of pytest…]
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
LISTED: Final = ROOT / "tests" / "flaky.txt"
_FAILED: Final = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
_TESTS_FAILED: Final = 1
"""pytest's exit code for that; all others mean that it did not run as asked."""


def listed(text: str) -> dict[str, str]:
    """Reasons by test. A line is `file::test  reason`. Raises ValueError for a test without a reason."""
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition("  ")
            if not reason.strip():
                raise ValueError(f"{name}: a flaky test is listed with its reason")
            found[name.strip()] = reason.strip()
    return found


def verdict(beside: set[str], alone: set[str], reasons: dict[str, str]) -> tuple[int, list[str]]:
    """(exit code, lines) of what failed beside others and of what of that failed alone, too."""
    lines, code = [f"FAILED {name}: beside others and alone" for name in sorted(alone)], int(bool(alone))
    for name in sorted(beside - alone):
        if name in reasons:
            lines.append(f"flaky {name}: passes alone; known: {reasons[name]}")
        else:
            code = 1
            lines.append(f"FAILED {name}: only beside others; fix it, or list it with a reason in tests/flaky.txt")
    return code, lines


def main(arguments: list[str]) -> int:
    reasons = listed(LISTED.read_text())
    first = _pytest([*arguments, "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--cache-clear"])
    if first != _TESTS_FAILED:
        return first
    beside = _failed()
    again = _pytest([*arguments, "--last-failed", "--last-failed-no-failures", "none"])
    if again not in (0, _TESTS_FAILED):
        return again
    code, lines = verdict(beside, _failed() if again else set(), reasons)
    print("\n".join(lines), flush=True)
    return code


def _pytest(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT).returncode


def _failed() -> set[str]:
    return set(json.loads(_FAILED.read_text())) if _FAILED.exists() else set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
