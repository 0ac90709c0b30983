"""JSON pointers: what is written is read again, and escapes are those of RFC 6901."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.pointer import pointer_of, steps_of


@pytest.mark.parametrize(
    ("path", "pointer"),
    [((), ""), (("",), "/"), (("a/b",), "/a~1b"), (("m~n", 0), "/m~0n/0"), (("~1",), "/~01")],
)
def test_the_examples_of_the_standard_are_written_so(path, pointer):
    assert pointer_of(path) == pointer


@given(st.lists(st.text(max_size=5) | st.sampled_from(["~", "/", "~1", "~0", "~01"]), max_size=4))
def test_what_is_written_is_read_again(path):
    assert steps_of(pointer_of(path)) == tuple(path)
    assert steps_of("#" + pointer_of(path)) == tuple(path)
