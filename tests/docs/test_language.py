"""Documents, messages and comments use the field's terms: phrases of our own that were replaced do not return.

`docs/glossary.md` has the terms. A phrase is listed here with what to write in its place; a line that must keep one (a
quotation, a name that users rely on) is listed in ALLOWED with its reason.
"""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT = Path(__file__).parents[2]

PHRASES: Final = {
    r"\b(?:is|are|was|were|be|been|being) told\b": "is notified, is sent, is reported, receives",
    r"\bstands? twice\b": "is duplicated, is stored twice",
    r"\banew\b": "again; re-created, recalculated, reloaded",
    r"\bwhat is so\b": "what is true, the state",
    r"\bwhat (?:became|becomes) of\b": "the outcome of, the verdict on",
    r"\bfor ever\b": "forever, permanently, indefinitely",
    r"\bfits? the world\b|\bthe world does not fit\b": "does not match the topics, inconsistent state",
    r"\bof one piece\b": "consistent",
    r"\bstands? still\b": "is stalled, does not advance",
    r"\bis no (?:number|time|device|text|JSON|reading|object)\b": "is not a number, is not valid JSON",
    r"\bmend(?:s|ed|ing)?\b": "fix, repair, correct",
    r"\b(?:wishes|wish)\b": "request, desired value",
    r"^#+ Doors\b|\bdoors? (?:of|to) the platform\b": "endpoints, listeners",
    r"\bheard of\b": "received, observed",
    r"\bnobody (?:hears|is woken)\b": "no alert is sent",
    r"^class (?:Held|Place|World|Tally|Said|Shelf|Confirm|Told|Heard|Wish|Door)\b": "AssignedPartition, LogFacts, …",
}
"""Regular expression, ignoring case: what to write instead."""

_APPLIED: Final = "an applied migration: its checksum is stored in every database, so its comments stay"
ALLOWED: Final[dict[tuple[str, str], str]] = {
    ("sinks/migrations/0001_readings.sql", ""): _APPLIED,
    ("sinks/migrations/0002_ledger.sql", ""): _APPLIED,
    ("sinks/migrations/0003_history.sql", ""): _APPLIED,
    ("sinks/migrations/0004_ledger_views.sql", ""): _APPLIED,
    ("sinks/migrations/0005_derived.sql", ""): _APPLIED,
    ("sinks/migrations/0006_ledger_windows.sql", ""): _APPLIED,
    ("sinks/migrations/0008_rollups.sql", ""): _APPLIED,
    ("sinks/migrations/0009_marks.sql", ""): _APPLIED,
    ("sinks/migrations/0010_corrections.sql", ""): _APPLIED,
    ("docs/columns.md", ""): "generated from the comments of applied migrations",
}
"""(file, part of the line): why it stays."""

_SUFFIXES: Final = (".py", ".md", ".yml", ".yaml", ".sql", ".toml", ".conf", ".sh", ".html", ".example", "Makefile")
_THIS: Final = "tests/docs/test_language.py"


def _files() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    return [name for name in listed if name.endswith(_SUFFIXES) and name != _THIS and (ROOT / name).exists()]


def found(phrase: str, text: str) -> list[tuple[int, str]]:
    """(number, line) of the lines of a text that use a phrase."""
    pattern = re.compile(phrase, re.IGNORECASE)
    return [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if pattern.search(line)]


def test_the_lint_finds_a_phrase() -> None:
    assert found(r"\banew\b", "a\nthe table is made anew\n") == [(2, "the table is made anew")]


@pytest.mark.parametrize("phrase", PHRASES)
def test_phrases_of_our_own_do_not_return(phrase: str) -> None:
    lines = []
    for name in _files():
        for number, line in found(phrase, (ROOT / name).read_text()):
            if not any(file == name and part in line for file, part in ALLOWED):
                lines.append(f"{name}:{number}: {line[:120]}")
    assert not lines, f"write {PHRASES[phrase]!r} instead:\n" + "\n".join(lines)
