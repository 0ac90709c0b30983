"""Patterns of EventBridge choose records."""

import json

import pytest

from faas.lambda_errors import InvalidParameter
from faas.mappings.filters import MAX_PATTERN, matches, pattern

RECORD = {
    "eventSource": "aws:sqs",
    "body": json.dumps(
        {"kind": "order", "price": 12.5, "tags": ["new", "eu"], "ip": "10.0.0.7", "note": None}
    ),
}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, True),
        ({"eventSource": ["aws:sqs"]}, True),
        ({"eventSource": ["aws:kinesis"]}, False),
        ({"body": {"kind": ["order", "refund"]}}, True),
        ({"body": {"kind": ["refund"]}}, False),
        ({"body": {"tags": ["eu"]}}, True),
        ({"body": {"tags": ["us"]}}, False),
        ({"body": {"note": [None]}}, True),
        ({"body": {"kind": [None]}}, False),
        ({"body": {"price": [12.5]}}, True),
        ({"body": {"price": [{"numeric": [">", 10, "<=", 12.5]}]}}, True),
        ({"body": {"price": [{"numeric": ["<", 10]}]}}, False),
        ({"body": {"kind": [{"numeric": ["<", 10]}]}}, False),
        ({"body": {"kind": [{"prefix": "or"}]}}, True),
        ({"body": {"kind": [{"prefix": {"equals-ignore-case": "OR"}}]}}, True),
        ({"body": {"kind": [{"suffix": "der"}]}}, True),
        ({"body": {"kind": [{"suffix": "x"}]}}, False),
        ({"body": {"kind": [{"equals-ignore-case": "ORDER"}]}}, True),
        ({"body": {"kind": [{"wildcard": "o*d*r"}]}}, True),
        ({"body": {"kind": [{"wildcard": "o*x*r"}]}}, False),
        ({"body": {"kind": [{"wildcard": "order*"}]}}, True),
        ({"body": {"kind": [{"wildcard": "ord\\*er"}]}}, False),
        ({"body": {"kind": [{"anything-but": "order"}]}}, False),
        ({"body": {"kind": [{"anything-but": ["refund", "x"]}]}}, True),
        ({"body": {"kind": [{"anything-but": {"prefix": "or"}}]}}, False),
        ({"body": {"kind": [{"anything-but": {"suffix": ["x", "y"]}}]}}, True),
        ({"body": {"missing": [{"anything-but": "x"}]}}, False),
        ({"body": {"missing": [{"exists": False}]}}, True),
        ({"body": {"kind": [{"exists": False}]}}, False),
        ({"nowhere": {"deep": [{"exists": False}]}}, True),
        ({"body": {"ip": [{"cidr": "10.0.0.0/24"}]}}, True),
        ({"body": {"ip": [{"cidr": "10.0.1.0/24"}]}}, False),
        ({"body": {"kind": [{"cidr": "10.0.1.0/24"}]}}, False),
        ({"$or": [{"eventSource": ["x"]}, {"body": {"kind": ["order"]}}]}, True),
        ({"$or": [{"eventSource": ["x"]}, {"body": {"kind": ["y"]}}]}, False),
        ({"body": {"kind": ["order"], "price": [1]}}, False),
    ],
)
def test_a_pattern_matches_as_eventbridge_says(wanted, expected):
    assert matches(pattern(json.dumps(wanted)), RECORD) is expected


def test_a_record_whose_body_is_no_json_matches_no_pattern_for_its_inside():
    wanted = pattern('{"body": {"kind": ["order"]}}')
    assert not matches(wanted, {"body": "plain text"})
    assert not matches(wanted, {"body": "[" * 100_000})
    assert matches(pattern('{"body": ["plain text"]}'), {"body": "plain text"})


def test_true_is_not_one():
    assert not matches(pattern('{"a": [1]}'), {"a": True})
    assert matches(pattern('{"a": [true]}'), {"a": True})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        '{"a": "b"}',
        '{"a": []}',
        '{"a": [["b"]]}',
        '{"a": [{"nope": 1}]}',
        '{"a": [{"prefix": 1}]}',
        '{"a": [{"exists": "yes"}]}',
        '{"a": [{"numeric": [">"]}]}',
        '{"a": [{"numeric": ["~", 1]}]}',
        '{"a": [{"numeric": [1, 1]}]}',
        '{"a": [{"cidr": "ten"}]}',
        '{"a": [{"anything-but": []}]}',
        '{"a": [{"anything-but": {"numeric": [">", 1]}}]}',
        '{"a": [{"prefix": "x", "suffix": "y"}]}',
        '{"$or": [{"a": [1]}]}',
        '{"a":' * 40 + "[1]" + "}" * 40,
        "[" * 3000,
        " " * (MAX_PATTERN + 1),
    ],
)
def test_what_is_no_pattern_is_refused(text):
    with pytest.raises(InvalidParameter, match="Invalid filter pattern"):
        pattern(text)
