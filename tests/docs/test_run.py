"""tests/run.py: a failure is a failure, unless it is listed."""

import pytest

from tests.run import LISTED, ROOT, listed, verdict

REASONS = {"tests/a.py::test_known": "a port may be taken"}


@pytest.mark.parametrize(
    ("beside", "alone", "code"),
    [
        (set(), set(), 0),
        ({"tests/a.py::test_x"}, {"tests/a.py::test_x"}, 1),
        ({"tests/a.py::test_x"}, set(), 1),
        ({"tests/a.py::test_known"}, set(), 0),
        ({"tests/a.py::test_known"}, {"tests/a.py::test_known"}, 1),
        ({"tests/a.py::test_known", "tests/a.py::test_x"}, set(), 1),
    ],
)
def test_a_test_that_passes_only_alone_fails_the_run_unless_it_is_listed(
    beside: set[str], alone: set[str], code: int
) -> None:
    found, lines = verdict(beside, alone, REASONS)
    assert found == code
    assert len(lines) == len(beside)
    for name in beside:
        assert any(name in line for line in lines)


def test_a_flaky_test_is_listed_with_a_reason_and_exists() -> None:
    with pytest.raises(ValueError, match="reason"):
        listed("tests/a.py::test_x\n")
    assert listed("# nothing\n\ntests/a.py::test_x  it is so\n") == {"tests/a.py::test_x": "it is so"}
    for name in listed(LISTED.read_text()):
        file, _, test = name.partition("::")
        assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text()
