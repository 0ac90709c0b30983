import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.api.asked import Asked
from faas.lambda_errors import InvalidParameter
from faas.operations.paging import page


def asked(**parameters):
    return Asked("ListLayers", parameters, "id", "http://127.0.0.1")


KEYS = st.sets(st.text(max_size=4), max_size=12)


@given(keys=KEYS, size=st.integers(1, 5), falling=st.booleans(), data=st.data())
def test_pages_show_what_stays_once_whatever_comes_and_goes_between_them(keys, size, falling, data):
    present, seen, marker, stayed = set(keys), [], None, set(keys)
    while True:
        listed = {key: key for key in sorted(present, reverse=falling)}
        parameters = {"MaxItems": size} | ({"Marker": marker} if marker else {})
        values, more = page(listed, asked(**parameters), falling=falling)
        assert len(values) <= size
        seen += values
        marker = more.get("NextMarker")
        if marker is None:
            break
        gone = data.draw(st.sets(st.sampled_from(sorted(keys))))
        stayed -= gone
        present = (keys - gone) | data.draw(KEYS)
    assert len(seen) == len(set(seen))
    assert stayed <= set(seen)
    assert seen == sorted(seen, reverse=falling)


def test_no_page_is_longer_than_the_operation_allows():
    listed = {f"{number:03d}": number for number in range(100)}
    values, more = page(listed, asked(MaxItems=90), most=50)
    assert values == list(range(50))
    values, more = page(listed, asked(Marker=more["NextMarker"]), most=50)
    assert values == list(range(50, 100))
    assert more == {}


@pytest.mark.parametrize("marker", ["?", "a", "YWZ0ZQ==", "\N{SNOWMAN}", "x" * 10_000])
def test_a_marker_of_somebody_elses_is_refused(marker):
    with pytest.raises(InvalidParameter, match="Invalid pagination marker"):
        page({"a": 1}, asked(Marker=marker))
