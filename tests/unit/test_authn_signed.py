"""Requests signed with a key's secret: what must be covered, and that each counts once."""

import hmac
from base64 import b64decode, b64encode
from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.callers import NOW, PEPPER, head, open_house

from gateway import keys
from gateway.authn import signed as signed_module
from gateway.authn import structured
from gateway.authn.signature import Signature
from gateway.authn.structured import Item, Token
from gateway.problem import Refused
from wherry.model.authentication import Anonymous, Hmac
from wherry.store.memory import MemoryStore

CONSUMERS = """
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: alice}
"""
METHOD = Hmac(type="hmac")
BODY = b'{"a": 1}'
DIGEST = f"sha-256=:{b64encode(sha256(BODY).digest()).decode()}:"
COVERED = ("@method", "@path", "@query")


def sign(secret, lines, parameters):
    base = "\n".join([*lines, f'"@signature-params": {parameters}'])
    made = b64encode(hmac.digest(secret.encode(), base.encode(), "sha256")).decode()
    return {"Signature-Input": f"wherry={parameters}", "Signature": f"wherry=:{made}:"}


def request(
    prefix,
    *,
    secret=None,
    covered=COVERED,
    created=NOW,
    more="",
    method="GET",
    target="/a/b?x=1",
    headers=(),
    sent=None,
):
    """Sign as a client would, by its own reading of the RFC."""
    headers = dict(headers)
    path, _, query = target.partition("?")
    values = {
        "@method": method,
        "@path": path,
        "@query": f"?{query}",
        "@request-target": target,
        "@authority": "api.example",
        "@scheme": "http",
        "@target-uri": f"http://api.example{target}",
        **{name.lower(): value.strip() for name, value in headers.items()},
    }
    lines = [f'"{name}": {values.get(name, "")}' for name in covered]
    names = " ".join(f'"{name}"' for name in covered)
    when = "" if created is None else f";created={created}"
    parameters = f'({names}){when};keyid="{prefix}"{more}'
    secret = keys.signing_secret(PEPPER, prefix) if secret is None else secret
    found = {"Host": "API.example:80", **headers, **sign(secret, lines, parameters)}
    return head(sent or target, method=method, headers=found)


def refused(house, asked, *, method=METHOD):
    with pytest.raises(Refused) as caught:
        house.quick([method], asked)
    assert caught.value.status == 401
    assert caught.value.headers["WWW-Authenticate"] == 'Signature realm="wherry"'
    return caught.value.detail


async def test_a_signed_request_names_the_caller_of_its_key():
    async with open_house(CONSUMERS) as house:
        key, _ = await house.key("alice")
        for covered in (
            COVERED,
            ("@method", "@request-target"),
            ("@target-uri", "@method", "@authority", "@scheme", "host"),
        ):
            asked = request(key.prefix, covered=covered, headers={"Host": "API.example:80"})
            if "host" in covered:
                asked = request(key.prefix, covered=covered, headers={"Host": "api.example"})
            caller = house.quick([METHOD], asked)
            assert (caller.consumer, caller.credential) == ("alice", key.prefix)
            assert (caller.method, caller.body_digest) == ("hmac", None)


def test_the_example_of_the_rfc_has_its_signature():
    secret = b64decode(
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ=="
    )
    asked = head(
        "/foo?param=Value&Pet=dog",
        method="POST",
        headers={
            "Host": "example.com",
            "Date": "Tue, 20 Apr 2021 02:07:55 GMT",
            "Content-Type": "application/json",
        },
    )
    given_ = structured.dictionary(
        'sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"'
    )["sig-b25"]
    found = Signature.made_of(asked, "test-shared-secret", given_, b"")
    expected = "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="
    assert b64encode(hmac.digest(secret, found.base, "sha256")).decode() == expected


@pytest.mark.parametrize(
    ("covered", "lacking"),
    [
        (("@path", "@query"), "@method"),
        (("@method", "@query"), "@path"),
        (("@method", "@path"), "@query"),
        (("@method", "@scheme"), "@path, @query"),
    ],
)
async def test_what_must_be_signed_is_named_when_it_is_not(covered, lacking):
    async with open_house(CONSUMERS) as house:
        key, _ = await house.key("alice")
        detail = refused(house, request(key.prefix, covered=covered))
        assert detail.endswith(f"The signature does not cover {lacking}.")


async def test_a_method_may_ask_for_more_headers_to_be_signed():
    async with open_house(CONSUMERS) as house:
        key, _ = await house.key("alice")
        method = Hmac(type="hmac", headers=["X-Tenant"])
        assert "x-tenant" in refused(house, request(key.prefix), method=method)
        covered = (*COVERED, "x-tenant")
        asked = request(key.prefix, covered=covered, headers={"X-Tenant": " a "})
        assert house.quick([method], asked).consumer == "alice"
        gone = request(key.prefix, covered=covered)
        assert "'x-tenant' is signed but not there" in refused(house, gone, method=method)


async def test_a_body_needs_a_signed_digest_and_the_caller_carries_it():
    async with open_house(CONSUMERS) as house:
        key, _ = await house.key("alice")
        headers = {"Content-Length": "8", "Content-Digest": DIGEST}
        bare = request(key.prefix, method="POST", headers=headers)
        assert "does not cover content-digest" in refused(house, bare)
        chunked = request(key.prefix, method="POST", headers={"Transfer-Encoding": "chunked"})
        assert "does not cover content-digest" in refused(house, chunked)
        covered = (*COVERED, "content-digest")
        whole = request(key.prefix, method="POST", headers=headers, covered=covered)
        assert house.quick([METHOD], whole).body_digest == sha256(BODY).digest()
        for digest in ("sha-512=:AAAA:", "sha-256=:AAAA:", "sha-256=7", "?"):
            headers["Content-Digest"] = digest
            other = request(key.prefix, method="POST", headers=headers, covered=covered)
            assert "Content-Digest" in refused(house, other)
        loose = Hmac(type="hmac", digest=False)
        free = request(key.prefix, method="POST", headers={"Content-Length": "8"})
        assert house.quick([loose], free).body_digest is None


async def test_anything_changed_after_signing_is_refused():
    async with open_house(CONSUMERS) as house:
        key, _ = await house.key("alice")
        other, _ = await house.key("alice")
        changed = [
            request(key.prefix, sent="/a/c?x=1"),
            request(key.prefix, sent="/a/b?x=2"),
            request(key.prefix, secret=keys.signing_secret(PEPPER, other.prefix)),
            request(key.prefix, secret=keys.signing_secret(b"q" * 32, key.prefix)),
        ]
        asked = request(key.prefix)
        asked.method = "DELETE"
        later = request(key.prefix)
        text = later.headers["Signature-Input"]
        later.headers["Signature-Input"] = text.replace(str(NOW), str(NOW + 1))
        for each in (*changed, asked, later):
            assert refused(house, each) == "This needs a signature by a key's signing secret."


async def test_a_request_is_taken_once_by_its_nonce_or_its_signature():
    async with open_house(CONSUMERS) as house:
        key, _ = await house.key("alice")
        asked = request(key.prefix)
        assert house.quick([METHOD], asked).consumer == "alice"
        assert "came before" in refused(house, asked)
        once = request(key.prefix, more=';nonce="n1"')
        assert house.quick([METHOD], once).consumer == "alice"
        again = request(key.prefix, more=';nonce="n1"', target="/other?y=1")
        assert "came before" in refused(house, again)
        new = request(key.prefix, more=';nonce="n2"', target="/other?y=1")
        assert house.quick([METHOD], new).consumer == "alice"
        house.clock.seconds += 299
        assert "came before" in refused(house, asked)
        house.clock.seconds += 2
        assert "too far from now" in refused(house, asked)


async def test_a_request_counts_near_its_time_only():
    async with open_house(CONSUMERS) as house:
        key, _ = await house.key("alice")
        for created in (NOW - 300, NOW + 300):
            assert house.quick([METHOD], request(key.prefix, created=created))
        for created in (NOW - 301, NOW + 301, 0, 10**14):
            assert "too far" in refused(house, request(key.prefix, created=created))
        assert "is expired" in refused(house, request(key.prefix, more=f";expires={NOW}"))
        assert house.quick([METHOD], request(key.prefix, more=f";expires={NOW + 1}"))
        assert "has no time" in refused(house, request(key.prefix, created=None))
        dated = {"Date": "Fri, 15 Jan 2027 08:00:00 GMT"}
        covered = (*COVERED, "date")
        by_date = request(key.prefix, created=None, covered=covered, headers=dated)
        assert house.quick([METHOD], by_date)
        dated["Date"] = "yesterday"
        by_date = request(key.prefix, created=None, covered=covered, headers=dated)
        assert "Date is malformed" in refused(house, by_date)


async def test_a_key_that_ended_signs_no_more_and_the_answer_does_not_tell():
    async with open_house(CONSUMERS) as house:
        key, _ = await house.key("alice")
        await house.revoke(key.prefix)
        ended = refused(house, request(key.prefix))
        unknown = refused(house, request("aaaaaaaa"))
        assert ended == unknown == "This needs a signature by a key's signing secret."


@pytest.mark.parametrize(
    ("input_", "signature", "why"),
    [
        ("wherry=(", "wherry=:AAAA:", "malformed"),
        ("", "", "No signature names"),
        ('a=("@method");keyid="nobody"', "a=:AAAA:", "No signature names"),
        ('a=("@method");keyid=aaaaaaaa', "b=:AAAA:", "no Signature 'a'"),
        ('a=("@method");keyid="aaaaaaaa";created=1', "a=7", "no Signature 'a'"),
        ('a=("@method");keyid="aaaaaaaa";created=1;alg="none"', "a=:AAAA:", "algorithm must"),
        ('a="@method";keyid="aaaaaaaa";created=1', "a=:AAAA:", "no list"),
        ('a=("@Method");keyid="aaaaaaaa";created=1', "a=:AAAA:", "lower case"),
        ('a=("x";sf);keyid="aaaaaaaa";created=1', "a=:AAAA:", "not supported"),
        ('a=("@status");keyid="aaaaaaaa";created=1', "a=:AAAA:", "not supported"),
        ('a=("@path" "@path");keyid="aaaaaaaa";created=1', "a=:AAAA:", "twice"),
        ('a=("@method");keyid="aaaaaaaa";created="x"', "a=:AAAA:", "no time"),
    ],
)
async def test_a_malformed_signature_is_refused_with_what_is_wrong(input_, signature, why):
    async with open_house(CONSUMERS) as house:
        headers = {"Host": "api.example", "Signature-Input": input_, "Signature": signature}
        assert why in refused(house, head(headers=headers))
        methods = [METHOD, Anonymous(type="anonymous", consumer="alice")]
        with pytest.raises(Refused):
            house.quick(methods, head(headers=headers))
        assert house.prepare([METHOD]).secret_fields == ("signature", "signature-input")


async def test_of_several_signatures_the_one_by_a_key_of_ours_counts():
    async with open_house(CONSUMERS) as house:
        key, _ = await house.key("alice")
        asked = request(key.prefix)
        for name, other in (
            ("Signature-Input", 'theirs=("@method");keyid="rsa-1"'),
            ("Signature", "theirs=:AAAA:"),
        ):
            asked.headers[name] = f"{other}, {asked.headers[name]}"
        assert house.quick([METHOD], asked).consumer == "alice"


async def test_what_one_process_took_no_other_takes():
    store = MemoryStore()
    async with (
        open_house(CONSUMERS, store=store, shared=True) as one,
        open_house(CONSUMERS, store=store, shared=True) as other,
    ):
        key, _ = await one.key("alice")
        await other.look()
        asked = request(key.prefix)
        assert one.quick([METHOD], asked) is None
        assert (await one.identify([METHOD], asked)).consumer == "alice"
        for house in (one, other):
            with pytest.raises(Refused, match="came before"):
                await house.identify([METHOD], asked)


async def test_when_no_more_can_be_remembered_requests_wait(monkeypatch):
    monkeypatch.setattr(signed_module, "MOST", 2)
    async with open_house(CONSUMERS) as house:
        key, _ = await house.key("alice")
        for number in range(2):
            assert house.quick([METHOD], request(key.prefix, target=f"/{number}?"))
        with pytest.raises(Refused) as caught:
            house.quick([METHOD], request(key.prefix, target="/2?"))
        assert caught.value.status == 503
        house.clock.seconds += 601
        late = request(key.prefix, target="/2?", created=NOW + 601)
        assert house.quick([METHOD], late)


BARE = (
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
    | st.integers(-(10**15) + 1, 10**15 - 1)
    | st.booleans()
    | st.binary(max_size=20)
    | st.from_regex(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]{0,9}", fullmatch=True).map(Token)
)
NAME = st.from_regex(r"[a-z*][a-z0-9_\-.*]{0,9}", fullmatch=True)
PARAMETERS = st.dictionaries(NAME, BARE, max_size=3)
ITEM = st.builds(Item, BARE, PARAMETERS)
MEMBER = ITEM | st.builds(Item, st.lists(ITEM, max_size=4).map(tuple), PARAMETERS)


@given(st.dictionaries(NAME, MEMBER, min_size=1, max_size=4))
def test_a_dictionary_reads_back_as_it_was_written(members):
    text = ", ".join(f"{name}={structured.written(item)}" for name, item in members.items())
    assert structured.dictionary(text) == members


@given(st.text(max_size=60))
def test_any_text_is_a_dictionary_or_refused(text):
    with suppress(ValueError):
        structured.dictionary(text)
