"""A table that is bounded forgets what nobody uses."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.recent import Recent


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["get", "put", "of"]), st.integers(0, 6)), max_size=60),
)
def test_the_ones_used_last_are_kept_and_no_more(most, steps):
    kept, used = Recent(most), []
    for place, (verb, key) in enumerate(steps):
        known = key in used
        if verb == "get":
            assert (kept.get(key) is not None) is known
        elif verb == "put":
            kept.put(key, (key, place))
            assert kept.get(key) == (key, place)
        else:
            assert kept.of(key, lambda key=key, place=place: (key, place))[0] == key
        if known or verb != "get":
            used = [*(each for each in used if each != key), key][-most:]
        assert len(kept) == len(used)
    kept.clear()
    assert len(kept) == 0
