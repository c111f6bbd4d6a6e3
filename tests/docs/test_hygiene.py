"""What tests must not do, read from their source."""

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests").rglob("*.py"))
PACKAGES = (
    "schemas",
    "runtime",
    "bridge",
    "streams",
    "sinks",
    "identity",
    "control",
    "monitoring",
    "local",
    "cli",
    "operations",
)


def imported(file: Path) -> set[str]:
    """Modules that a file imports, with the names from them: any of these may be a module."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def listed() -> dict[str, tuple[int, str]]:
    found = {}
    for line in (ROOT / "tests" / "sleeps.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, count, reason = line.split("  ")
            found[name] = int(count), reason
    return found


def test_no_test_sleeps_but_where_that_is_its_point() -> None:
    allowed, found = listed(), Counter[str]()
    for file in FILES:
        if file != Path(__file__):
            found[str(file.relative_to(ROOT))] = len(re.findall(r"\bsleep\(", file.read_text()))
    more = {name: count for name, count in found.items() if count > allowed.get(name, (0, ""))[0]}
    assert not more, "wait for a condition (tests/support/waiting.py), or say in tests/sleeps.txt why not"
    fewer = {name: found[name] for name, (count, _) in allowed.items() if found[name] < count}
    assert not fewer, "tests/sleeps.txt lists more sleeps than there are"


def test_no_test_module_is_imported() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in FILES
        for name in imported(file)
        if re.search(r"^tests\..*\btest_\w+", name)
        if (ROOT / (name.replace(".", "/") + ".py")).exists()
    ]
    assert not wrong, "what two tests need goes into a module of its own beside them"


def test_tests_import_no_benchmark_and_the_product_imports_no_test() -> None:
    for file in FILES:
        wrong = {name for name in imported(file) if name == "cli.bench" or name.split(".")[0] == "benchmarks"}
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            assert not {name for name in imported(file) if name.split(".")[0] == "tests"}, file
