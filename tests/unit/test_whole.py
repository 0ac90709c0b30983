"""The head of an answer whose body is here, and random bytes drawn in advance."""

import pytest
from multidict import CIMultiDict

from gateway.call import Answer
from gateway.trace import Chance
from gateway.whole import encoded

DATE = "Date: Tue, 14 Nov 2023 22:13:20 GMT"


def head(fields=(), length=2, status=200, **more):
    answer = Answer(status, CIMultiDict(fields), b"", more.pop("reason", None))
    return encoded(answer, length, 1_700_000_000, **more).decode().split("\r\n")


def test_an_answer_is_framed_by_us_whatever_its_fields_say():
    said = [("content-length", "9"), ("TRANSFER-ENCODING", "chunked"), ("Keep-Alive", "x")]
    assert head([*said, ("X", "1"), ("connection", "x")]) == [
        *("HTTP/1.1 200 OK", "X: 1", DATE, "Content-Length: 2", "", ""),
    ]


def test_a_date_that_is_there_stays():
    assert head([("date", "then")])[1:3] == ["date: then", "Content-Length: 2"]


@pytest.mark.parametrize("status", [204, 304])
def test_what_has_no_body_says_no_length(status):
    assert not any("Length" in line for line in head([("Content-Length", "5")], 0, status))


def test_the_answer_to_head_says_the_length_that_get_would_have():
    assert "Content-Length: 7" in head([("Content-Length", "7")], 0, asked_head=True)
    assert "Content-Length: 3" in head([("Content-Length", "7")], 3, asked_head=True)
    assert not any("Length" in line for line in head([], 0, asked_head=True))


def test_the_last_answer_of_a_connection_says_so():
    assert head(connection="close")[-3:] == ["Connection: close", "", ""]


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b"])
def test_a_field_cannot_hold_another(value):
    with pytest.raises(ValueError, match="line break"):
        head([("X", value)])


def test_a_reason_that_is_unusual_is_kept():
    assert head(reason="Fine")[0] == "HTTP/1.1 200 Fine"
    assert head(status=599)[0] == "HTTP/1.1 599 "


def test_bytes_are_drawn_once():
    chance = Chance()
    drawn = [chance(24) for _ in range(500)]
    assert all(len(each) == 24 for each in drawn)
    assert len(set(drawn)) == 500
