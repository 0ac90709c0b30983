"""The audit log keeps what was and what is, and none of the secrets in it."""

import json

import pytest

from wherry import audit
from wherry.audit import HIDDEN, Entry, redacted
from wherry.store.memory import MemoryStore


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"password": "x"}, {"password": HIDDEN}),
        ({"headers": {"set": [{"name": "X-Api-Key", "value": "x"}]}}, None),
        ({"query": {"set": {"access_token": "x", "page": "1"}}}, None),
        ({"body": {"set": {"/auth/clientSecret": "x"}}}, None),
        ({"url": "https://ann:x@example.com/"}, {"url": f"https://{HIDDEN}@example.com/"}),
        ({"jwks": {"keys": [{"kty": "oct", "k": "x", "kid": "1"}]}}, None),
        ({"secrets": ["x"]}, None),
    ],
)
def test_what_is_named_like_a_secret_is_hidden(value, shown):
    hidden = redacted(value)
    assert HIDDEN in json.dumps(hidden)
    assert '"x"' not in json.dumps(hidden)
    assert shown is None or hidden == shown


@pytest.mark.parametrize(
    "value",
    [
        {"clientSecretEnv": "SECRET", "tokensLast": "15m", "credentials": True},
        {"authentication": [{"type": "apiKey", "header": "x-api-key", "query": "apikey"}]},
        {"meters": [{"meter": "tokens", "header": "X-Tokens"}], "password": None},
        ["text", 1, None, True],
    ],
)
def test_what_is_no_secret_is_told(value):
    assert redacted(value) == value


def test_what_is_too_long_is_told_by_its_digest():
    entry = Entry("1", 2, "ann", "update", "Plan/gold", {"x": "y" * audit.MAX_SIDE}, {"x": 1})
    read = Entry.decode(entry.encode())
    assert (read.before["bytes"], len(read.before["sha256"])) == (audit.MAX_SIDE + 9, 64)
    assert read.after == {"x": 1}


async def test_an_entry_is_written_once():
    store, entry = MemoryStore(), Entry("1", 2, "ann", "create", "Plan/gold", None, {"x": 1})
    await audit.wrote(store, [entry])
    await audit.wrote(store, [entry])
    [event] = await store.read(audit.LOG)
    assert Entry.decode(event.body) == entry
