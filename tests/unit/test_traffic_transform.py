"""Changes to headers, queries and JSON bodies."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.problem import Refused
from gateway.traffic.json import BadJson, is_json, loads
from gateway.traffic.transform import Transformer, forget_body
from gateway.traffic.words import Facts, Text
from gateway.traffic.wrong import WrongPolicy
from wherry.model.traffic import Transform


def facts(query: str = "", **headers: str) -> Facts:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return Facts("acme", "web", "gold", "r-1", {"id": "a b/c"}, query, named)


def transformer(**request: object) -> Transformer:
    return Transformer.of(Transform.model_validate({"request": request}))


def header(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


def test_texts_are_filled_with_what_is_known():
    text = Text.of("${consumer}/${app}/${plan}/${request_id}/${path.id}/${query.q}/${header.X-A}")
    filled = text.fill(facts("q=1%202&q=3", X_A="seen"))
    assert filled == "acme/web/gold/r-1/a b/c/1 2/seen"
    assert Text.of("$${consumer} costs $5").fill(facts()) == "${consumer} costs $5"
    assert Text.of("[${query.none}${header.none}]").fill(facts()) == "[]"


@pytest.mark.parametrize("text", ["${consumr}", "${", "${}", "${path.other}", "${query.}", "a${b"])
def test_an_unknown_variable_is_refused_when_compiled(text: str):
    with pytest.raises(WrongPolicy):
        Text.of(text, {"id"})


def test_headers_are_removed_set_and_added():
    change = transformer(
        headers={
            "remove": ["X-Gone"],
            "set": [header("X-Who", "${consumer}")],
            "add": [header("Via", "x")],
        }
    ).request
    fields = CIMultiDict([("x-gone", "1"), ("x-gone", "2"), ("x-who", "evil"), ("Via", "a")])
    change.headers(fields, facts())
    assert sorted(fields.items()) == [("Via", "a"), ("Via", "x"), ("X-Who", "acme")]


@given(st.text())
def test_no_value_can_end_a_header(value: str):
    change = transformer(headers={"set": [header("X-Q", "<${header.q}>")]}).request
    fields: CIMultiDict[str] = CIMultiDict()
    text = value.encode(errors="replace").decode()
    change.headers(fields, facts(q=text))
    assert fields["X-Q"].isascii()
    assert fields["X-Q"].isprintable()


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection"])
def test_headers_that_frame_the_message_are_left_alone(name: str):
    with pytest.raises(WrongPolicy, match="frame"):
        transformer(headers={"set": [header(name, "5")]})


def test_the_query_keeps_the_spelling_of_what_is_not_named():
    change = transformer(
        query={"remove": ["debug"], "set": {"who": "${consumer} & co"}, "add": {"x": "1"}}
    ).request
    assert change.query("a=%7e&de%62ug=1&x=0&who=evil&b", facts()) == (
        "a=%7e&x=0&b&who=acme+%26+co&x=1"
    )
    assert transformer().request.query("a=%7e&&b", facts()) == "a=%7e&&b"


def body(change: dict[str, object], given: bytes) -> object:
    return json.loads(transformer(body=change).request.body(given, facts()))


def test_json_is_changed_by_place():
    changed = body(
        {"remove": ["/secret", "/list/0", "/none/x"], "set": {"/a~1b/c": ["${app}", 1.5, None]}},
        b'{"secret": 1, "list": [1, 2], "big": 12345678901234567890, "e": "\\ud800"}',
    )
    assert changed == {
        "list": [2],
        "big": 12345678901234567890,
        "e": "\ud800",
        "a/b": {"c": ["web", 1.5, None]},
    }


def test_items_of_lists_are_set_and_appended():
    assert body({"set": {"/l/0": "x", "/l/-": "y"}}, b'{"l": [1, 2]}') == {"l": ["x", 2, "y"]}
    assert body({"set": {"/l/2": "z"}}, b'{"l": [1, 2]}') == {"l": [1, 2, "z"]}
    with pytest.raises(Refused):
        body({"set": {"/l/3": "z"}}, b'{"l": [1, 2]}')


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a": {"b": 1, "b": 1}}', "twice"),
        (b"[1e999]", "double"),
        (b"[-Infinity]", "no JSON"),
        (b"[" * 129 + b"]" * 129, "deeper"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (b"\xff", "UTF-8"),
        (b"1 2", "byte 2"),
    ],
)
def test_json_that_could_be_read_in_two_ways_is_none(text: bytes, why: str):
    with pytest.raises(BadJson, match=why):
        loads(text)
    assert loads(b"[" * 128 + b"]" * 128)


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"{",
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'"\xff"',
        b"[" * 5000 + b"]" * 5000,
        b"[" * 200 + b"]" * 200,
        b"1" * 5000,
        b'{"a": "text"}',
        b"[1]",
        b"7",
    ],
)
def test_a_body_that_cannot_be_changed_is_refused(given: bytes):
    with pytest.raises(Refused) as refused:
        body({"set": {"/a/b": 1}}, given)
    assert refused.value.status == 400


def test_an_answer_that_cannot_be_changed_is_the_upstreams_fault():
    change = Transformer.of(
        Transform.model_validate({"response": {"body": {"set": {"/a": 1}}}})
    ).response
    with pytest.raises(Refused) as refused:
        change.body(b"<html>", facts())
    assert refused.value.status == 502


@given(st.binary(max_size=60))
def test_whatever_comes_is_json_or_refused(data: bytes):
    try:
        value = loads(data)
    except BadJson:
        return
    assert value == json.loads(data)


@pytest.mark.parametrize(
    ("kind", "coding", "expected"),
    [
        ("application/json", "", True),
        ("application/problem+json; charset=utf-8", "identity", True),
        ("application/json", "gzip", False),
        ("application/jsonp", "", False),
        ("text/json", "", False),
        ("", "", False),
    ],
)
def test_only_plain_json_is_read(kind: str, coding: str, *, expected: bool):
    headers = CIMultiDict({"Content-Type": kind, "Content-Encoding": coding})
    assert is_json(headers) is expected


def test_what_was_said_of_the_old_body_goes():
    fields = CIMultiDict({"ETag": '"1"', "Content-Length": "5", "X": "y"})
    forget_body(fields)
    assert dict(fields) == {"X": "y"}


def test_changes_that_depend_on_who_calls_are_told_apart():
    assert not transformer(headers={"set": [header("X", "${path.id}${query.q}")]}).personal
    assert transformer(headers={"set": [header("X", "${plan}")]}).personal
    assert transformer(query={"add": {"x": "${header.X-A}"}}).personal
    assert transformer(body={"set": {"/a": [{"b": "${app}"}]}}).personal
