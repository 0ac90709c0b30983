"""Patterns from strangers mean what they mean to Python, and take linear time."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.csds.regex import BadPattern, regex_test

ATOMS = st.sampled_from(["a", "b", "-", ".", r"\d", r"\w", r"\S", r"\.", "[ab]", "[^a]", "[a-c1]"])


def combined(parts):
    one = parts.map(lambda p: f"({p})")
    return st.one_of(
        st.builds(
            "{}{}".format, one, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{1,}", "*?"])
        ),
        st.builds("{}{}".format, parts, parts),
        st.builds("(?:{}|{})".format, parts, parts),
    )


@given(st.recursive(ATOMS, combined, max_leaves=6), st.text("ab-.1c\n", max_size=8))
def test_a_pattern_means_what_it_means_to_python(pattern, text):
    assert regex_test(pattern)(text) == bool(re.fullmatch(pattern, text, re.ASCII))


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("^side-.*$", "side-1", True),
        ("^side-.*$", "ingress", False),
        ("(a+)+b", "a" * 1000, False),
        ("(a|aa)*", "a" * 1000, True),
        ("", "", True),
        ("", "a", False),
        (r"\D\W\s\n\t", "a- \n\t", True),
    ],
)
def test_common_and_hostile_patterns(pattern, text, matches):
    assert regex_test(pattern)(text) is matches


@pytest.mark.parametrize(
    "pattern",
    [
        "(", ")", "a)", "[", "[]", "[^]", "[[:alpha:]]", "[b-a]", "*", "a**", "a{2}{3}", "a{3,2}",
        "a{", "a{x}", "a{101}", "(?i)a", "(?=a)", "(?P<n>a)", r"\b", r"\1", "\\", "a^b", "a$b",
        "(" * 60, "((a{100}){100}){100}", "a" * 300,
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused(pattern):
    with pytest.raises(BadPattern, match="expected"):
        regex_test(pattern)
