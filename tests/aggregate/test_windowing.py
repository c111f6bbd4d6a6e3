"""The language of windows: what is right, and every mistake at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.checking.checker import Mistakes
from streams.aggregate.windowing import DAY_S, Windowing, check, decode

divisors = st.sampled_from([d for d in range(1, DAY_S + 1) if DAY_S % d == 0])
found = st.builds(
    Windowing,
    divisors,
    st.integers(0, DAY_S),
    st.integers(1, DAY_S),
    st.none() | st.integers(1, DAY_S),
    st.booleans(),
    st.lists(st.from_regex(r"[a-z]{1,9}", fullmatch=True).filter(lambda w: w != "device"), unique=True, max_size=8).map(
        tuple
    ),
)


@given(found)
def test_what_is_encoded_is_decoded(windowing: Windowing) -> None:
    assert decode(windowing.encode()) == windowing


def test_what_is_left_out_has_its_default() -> None:
    assert check("{}", "t") == Windowing()
    assert check("window_s: 3600\nearly_s: 60\nsketch: off\ngroups: []", "t") == Windowing(
        3600, early_s=60, sketch=False, groups=()
    )


def test_all_mistakes_are_named_at_once_with_their_lines() -> None:
    text = """\
window_s: 7
grace_s: -1
late_s: 0
early_s: soon
sketch: 1
groups: [site, device, site, "a b", 5]
windows: 60
grace_s: 5
"""
    with pytest.raises(Mistakes) as caught:
        check(text, "w.yaml")
    lines = caught.value.mistakes
    for begin in (
        "w.yaml:1: window_s: 7 does not divide a day (86400); 6 does",
        "w.yaml:2: grace_s must be a whole number from 0",
        "w.yaml:3: late_s must be a whole number from 1",
        "w.yaml:4: early_s must be a whole number from 1",
        "w.yaml:5: sketch must be true or false, not 1",
        "w.yaml:6: groups: 'device' is what rows of single devices are called",
        "w.yaml:6: groups: 'site' is given twice",
        "w.yaml:6: groups: 'a b' is not a label",
        "w.yaml:6: groups: 5 is not a label",
        "w.yaml:7: the settings of windows: unknown key 'windows'; did you mean 'window_s'?",
        "w.yaml:8: the settings of windows: 'grace_s' is given twice",
    ):
        assert any(line.startswith(begin) for line in lines), begin
    assert len(lines) == 11


@pytest.mark.parametrize("text", ["", "[]", "5", "a: b: c", "groups: site", "groups: [a,b,c,d,e,f,g,h,i]"])
def test_what_is_no_mapping_of_settings_is_refused(text: str) -> None:
    with pytest.raises(Mistakes):
        check(text, "t")
