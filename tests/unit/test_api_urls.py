"""The pure parts of function URLs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.lambda_errors import AccessDenied
from faas.model.url import Cors, FunctionUrl
from faas.urls.access import refuse_outsiders
from faas.urls.address import Door
from faas.urls.answer import BadAnswer, Head, NotJson, Response, buffered
from faas.urls.cors import is_preflight, merged, preflight, response
from faas.urls.event import Asking, Caller, event
from faas.urls.prelude import MAX_PRELUDE, Prelude, collected

ID = "abcdefghij0123456789abcdefghij01"
ANN = "arn:aws:iam::000000000000:user/ann"
PUBLIC = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": "lambda:InvokeFunctionUrl",
    "Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}},
}
DENIED = {"Effect": "Deny", "Principal": {"AWS": ANN}, "Action": "lambda:*"}


def url(auth):
    return FunctionUrl("a", "$LATEST", ID, auth, "", "")


@pytest.mark.parametrize(
    ("host", "path", "door"),
    [
        ("127.0.0.1:9", f"/{ID}", Door(ID, "/")),
        ("127.0.0.1:9", f"/{ID}/a//b%2F", Door(ID, "/a//b%2F")),
        (f"{ID}.lambda-url.eu-west-1.localhost:9", "/a", Door(ID, "/a")),
        (f"{ID.upper()}.lambda-url.eu-west-1.localhost", f"/{ID}", Door(ID, f"/{ID}")),
        ("127.0.0.1", "/short/a", None),
        ("127.0.0.1", "/", None),
        ("127.0.0.1", f"/{ID}x%", None),
    ],
)
def test_the_id_stands_in_the_host_or_first_in_the_path(host, path, door):
    assert Door.of(host, path) == door


@given(
    st.dictionaries(st.text("abc", min_size=1), st.text("xyz"), max_size=3),
    st.binary(max_size=40),
    st.integers(1, 20),
)
def test_a_prelude_is_read_however_it_is_cut(headers, body, step):
    wire = json.dumps({"statusCode": 201, "headers": headers}).encode() + bytes(8) + body
    prelude, found = Prelude(), None
    rest = b""
    for at in range(0, len(wire), step):
        piece = wire[at : at + step]
        if found is None:
            found = prelude.take(piece)
        else:
            rest += piece
    assert found is not None
    head, first = found
    assert head == Head(201, headers)
    assert first + rest == body


@pytest.mark.parametrize("wire", [b"[]" + bytes(8), b"{" + bytes(8), b"x" * (MAX_PRELUDE + 9)])
def test_a_prelude_that_is_none_is_refused(wire):
    with pytest.raises(BadAnswer):
        Prelude().take(wire)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(st.text("ab"), inside),
    max_leaves=4,
)
FIELDS = {"headers": JSON, "cookies": JSON, "body": JSON, "isBase64Encoded": JSON}


@given(st.fixed_dictionaries({"statusCode": JSON}, optional=FIELDS))
def test_whatever_a_function_says_is_a_response_or_refused(answer):
    try:
        assert buffered(json.dumps(answer).encode()).status in range(200, 600)
    except BadAnswer as error:
        found = error
    else:
        found = None
    assert found is None or "expected" in str(found)


@pytest.mark.parametrize("length", ["3", "500"])
def test_a_length_that_a_function_claims_is_not_passed_on(length):
    said = {"statusCode": 200, "headers": {"Content-Length": length}, "body": "hello"}
    answer = buffered(json.dumps(said).encode())
    assert (answer.body, [name for name, _ in answer.headers]) == (b"hello", ["content-type"])
    head = json.dumps({"headers": {"content-length": length}}).encode()
    assert [name for name, _ in collected(head + bytes(8) + b"hello").headers] == ["content-type"]


@given(st.binary(max_size=60))
def test_what_is_no_json_is_the_body(payload):
    try:
        json.loads(payload)
    except ValueError:
        with pytest.raises(NotJson):
            buffered(payload or b"{")
        assert collected(payload).body == payload
    assert collected(b'{"statusCode": 201}' + bytes(8) + payload) == Response(
        201, (("content-type", "application/octet-stream"),), payload
    )


@given(
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.dictionaries(st.text("abc-", min_size=1, max_size=9), st.text(max_size=9), max_size=3),
    st.binary(max_size=30),
)
def test_every_request_has_an_event(query, headers, body):
    asking = Asking(Door(ID, "/a"), "GET", query, headers, body, Caller("127.0.0.1"))
    found = json.loads(event(asking, request_id="1", region="eu-west-1", unix_ms=1))
    assert found["rawQueryString"] == query
    assert found["requestContext"]["time"] == "01/Jan/1970:00:00:00 +0000"


@pytest.mark.parametrize(
    ("auth", "statements", "caller", "allowed"),
    [
        ("NONE", [], "", False),
        ("NONE", [PUBLIC], "", True),
        ("NONE", [PUBLIC, {**PUBLIC, "Effect": "Deny"}], "", False),
        ("NONE", [{**PUBLIC, "Principal": {"AWS": ANN}}], "", False),
        ("NONE", [{**PUBLIC, "Action": "lambda:InvokeFunction"}], "", False),
        ("AWS_IAM", [], "", False),
        ("AWS_IAM", [PUBLIC], "", False),
        ("AWS_IAM", [], ANN, True),
        ("AWS_IAM", [DENIED], ANN, False),
    ],
)
def test_who_is_let_in(auth, statements, caller, allowed):
    if allowed:
        refuse_outsiders(url(auth), statements, caller)
    else:
        with pytest.raises(AccessDenied, match="Forbidden"):
            refuse_outsiders(url(auth), statements, caller)


def asks(origin="http://a.example", method="POST", **headers):
    return {"origin": origin, "access-control-request-method": method} | headers


def test_a_preflight_is_told_apart():
    assert is_preflight("OPTIONS", asks())
    assert not is_preflight("GET", asks())
    assert not is_preflight("OPTIONS", {"origin": "http://a.example"})


def test_everything_may_be_allowed_to_everybody():
    cors = Cors(allow_origins=("*",), allow_methods=("*",), allow_headers=("*",))
    said = preflight(cors, asks(**{"access-control-request-headers": "x-a,x-b"}))
    assert said["access-control-allow-origin"] == "*"
    assert said["access-control-allow-methods"] == "POST"
    assert said["access-control-allow-headers"] == "x-a,x-b"
    assert "access-control-allow-credentials" not in said


def test_with_credentials_the_origin_is_named():
    cors = Cors(allow_origins=("*",), allow_credentials=True)
    assert response(cors, asks())["access-control-allow-origin"] == "http://a.example"
    assert response(cors, asks())["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize("asked", [asks(origin="http://b.example"), asks(method="DELETE")])
def test_who_may_nothing_is_told_nothing(asked):
    cors = Cors(allow_origins=("http://a.example",), allow_methods=("POST",))
    assert preflight(cors, asked) == {"vary": "Origin"}


def test_the_url_and_not_its_function_says_cors():
    own = (("Access-Control-Allow-Origin", "*"), ("x-a", "b"))
    cors = Cors(allow_origins=("http://a.example",))
    assert merged(own, None, asks()) == list(own)
    assert merged(own, cors, {}) == list(own)
    assert merged(own, cors, asks()) == [
        ("x-a", "b"),
        ("vary", "Origin"),
        ("access-control-allow-origin", "http://a.example"),
    ]
