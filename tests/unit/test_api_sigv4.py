"""Signatures of botocore's own signers, verified."""

import hashlib
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from faas.api.credentials import Credentials
from faas.api.faults import (
    SignatureIncomplete,
    SignatureMissing,
    SignatureWrong,
    SignerUnknown,
)
from faas.api.sigv4 import Claim, Key, Scope, Sent
from wherry.errors import StartError

SIGNING = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "the token"  # noqa: S105
OTHER = "another"
KEYS = {
    "AKID": Key("AKID", SIGNING, caller="arn:aws:iam::000000000000:user/ann"),
    "ASIA": Key("ASIA", SIGNING, TOKEN, "arn:aws:iam::000000000000:user/tom"),
}
SCOPE = Scope("us-east-1", "lambda")
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)


def signed(signer=SigV4Auth, *, token=None, key="AKID", secret=SIGNING, scope=SCOPE, **request):
    given_ = {"method": "POST", "url": "http://localhost:9/a", "data": b"body"} | request
    asked = AWSRequest(**given_)
    signer(BotoCredentials(key, secret, token), scope.service, scope.region).add_auth(asked)
    wired = asked.prepare()
    parts = urlsplit(wired.url)
    headers = {name.lower(): value for name, value in wired.headers.items()}
    headers = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in headers.items()
    }
    headers.setdefault("host", parts.netloc)
    return Sent(wired.method, parts.path, parts.query, headers)


def now():
    return datetime.now(UTC)


def verified(sent, body=b"body", *, at=None, scope=SCOPE):
    claim = Claim.of(sent, KEYS, scope, at or now())
    return claim.confirm(hashlib.sha256(body).hexdigest())


def with_header(sent, name, value):
    return Sent(sent.method, sent.path, sent.query, {**sent.headers, name: value})


def test_botocores_header_signature_is_accepted():
    assert verified(signed()) == "arn:aws:iam::000000000000:user/ann"


def test_botocores_presigned_request_is_accepted_until_it_expires():
    sent = signed(SigV4QueryAuth, method="GET", data=b"")
    assert verified(sent, b"").endswith("user/ann")
    assert verified(sent, b"", at=now() + timedelta(minutes=59)).endswith("user/ann")
    with pytest.raises(SignatureWrong, match="Signature expired"):
        verified(sent, b"", at=now() + timedelta(minutes=61))


def test_an_unsigned_payload_may_be_anything():
    sent = signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    assert verified(sent, b"another").endswith("user/ann")


def test_a_session_token_must_be_the_keys_own():
    assert verified(signed(key="ASIA", token=TOKEN)).endswith("user/tom")
    presigned = signed(SigV4QueryAuth, key="ASIA", token=TOKEN, method="GET", data=b"")
    assert verified(presigned, b"").endswith("user/tom")
    for token in (None, "another"):
        with pytest.raises(SignerUnknown):
            verified(signed(key="ASIA", token=token))
    with pytest.raises(SignerUnknown):
        verified(signed(key="AKID", token=TOKEN))


@settings(deadline=None)
@given(
    st.lists(TEXT.filter(lambda each: each not in (".", "..")), max_size=4),
    st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=4),
    st.one_of(
        st.tuples(st.just(SigV4Auth), st.binary(max_size=50)),
        st.tuples(st.just(SigV4QueryAuth), st.just(b"")),
    ),
)
def test_any_path_query_and_body_can_be_signed(segments, pairs, how):
    signer, body = how
    path = "/" + "/".join(quote(each, safe="~") for each in segments if each)
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in dict(pairs).items()
        if not name.startswith("X-Amz")
    )
    url = f"http://localhost:9{path}" + (f"?{query}" if query else "")
    sent = signed(signer, url=url, data=body)
    assert verified(sent, body).endswith("user/ann")


@pytest.mark.parametrize(
    "changed",
    [
        lambda sent: Sent("PUT", sent.path, sent.query, sent.headers),
        lambda sent: Sent(sent.method, "/b", sent.query, sent.headers),
        lambda sent: Sent(sent.method, sent.path, "a=b", sent.headers),
        lambda sent: with_header(sent, "host", "elsewhere"),
        lambda sent: with_header(sent, "x-amz-invocation-type", "Event"),
        lambda sent: with_header(sent, "authorization", sent.headers["authorization"][:-1] + "z"),
        lambda sent: with_header(sent, "authorization", sent.headers["authorization"] + "é"),
    ],
)
def test_a_request_that_was_changed_is_refused(changed):
    with pytest.raises(SignatureWrong):
        verified(changed(signed()))


def test_another_body_is_refused():
    with pytest.raises(SignatureWrong, match="does not match the signature you provided"):
        verified(signed(), b"other")
    hashed = signed(headers={"X-Amz-Content-SHA256": hashlib.sha256(b"body").hexdigest()})
    assert verified(hashed).endswith("user/ann")
    with pytest.raises(SignatureWrong, match="x-amz-content-sha256"):
        verified(hashed, b"other")


def test_another_secret_is_refused():
    with pytest.raises(SignatureWrong):
        verified(signed(secret=OTHER))


def test_an_unknown_key_is_refused():
    with pytest.raises(SignerUnknown, match="The security token included in the request"):
        verified(signed(key="NOBODY"))


def test_no_signature_is_refused():
    with pytest.raises(SignatureMissing, match="Missing Authentication Token"):
        verified(Sent("GET", "/", "", {"host": "localhost"}))


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (Scope("us-east-1", "s3"), "correct service: 'lambda'"),
        (Scope("eu-west-1", "lambda"), "valid region"),
    ],
)
def test_a_signature_for_something_else_is_refused(scope, words):
    with pytest.raises(SignatureWrong, match=words):
        verified(signed(scope=scope))


@pytest.mark.parametrize(
    ("minutes", "words"), [(6, "Signature expired"), (-6, "Signature not yet current")]
)
def test_a_signature_of_another_time_is_refused(minutes, words):
    assert verified(signed(), at=now() + timedelta(minutes=minutes * 4 / 6)).endswith("ann")
    with pytest.raises(SignatureWrong, match=words):
        verified(signed(), at=now() + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer x",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=AKID",
        "AWS4-HMAC-SHA256 Credential=AKID/x, SignedHeaders=host, Signature=1",
        "AWS4-HMAC-SHA256 Credential=AKID/1/us-east-1/lambda/aws4_request, Signature=1",
    ],
)
def test_a_broken_authorization_is_told_apart(authorization):
    sent = with_header(signed(), "authorization", authorization)
    with pytest.raises(SignatureIncomplete):
        verified(sent)


@pytest.mark.parametrize("name", ["x-amz-date", "host"])
def test_a_date_and_a_host_are_needed(name):
    sent = signed()
    cut = sent.headers["authorization"].replace("host;", "")
    kept = {each: value for each, value in sent.headers.items() if each != "x-amz-date"}
    sent = (
        with_header(sent, "authorization", cut)
        if name == "host"
        else Sent(sent.method, sent.path, sent.query, kept)
    )
    with pytest.raises((SignatureIncomplete, SignatureWrong)):
        verified(sent)


def test_a_presigned_request_may_not_last_over_a_week():
    sent = signed(SigV4QueryAuth, method="GET", data=b"")
    longer = sent.query.replace("X-Amz-Expires=3600", "X-Amz-Expires=9999999")
    with pytest.raises(SignatureIncomplete, match="604800"):
        verified(Sent("GET", sent.path, longer, sent.headers), b"")


def test_a_presigned_request_of_another_algorithm_is_refused():
    sent = signed(S3SigV4QueryAuth, method="GET", data=b"")
    other = sent.query.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256")
    with pytest.raises(SignatureIncomplete):
        verified(Sent("GET", sent.path, other, sent.headers), b"")


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_no_header_breaks_the_verifier(authorization, date):
    headers = {"host": "a", "authorization": authorization, "x-amz-date": date}
    with pytest.raises((SignatureIncomplete, SignatureWrong, SignerUnknown)):
        verified(Sent("GET", "/", "", headers))


def test_a_credentials_file_has_a_user_per_profile(tmp_path):
    path = tmp_path / "credentials"
    path.write_text(
        "[default]\naws_access_key_id = AKID\naws_secret_access_key = 100%secret\n"
        "[ci]\naws_access_key_id=ASIA\naws_secret_access_key=b\naws_session_token=t\n"
    )
    found = Credentials.read(path, "000000000000")
    assert found == {
        "AKID": Key("AKID", "100%secret", "", "arn:aws:iam::000000000000:user/default"),
        "ASIA": Key("ASIA", "b", "t", "arn:aws:iam::000000000000:user/ci"),
    }
    assert "100%secret" not in repr(found)
    assert Credentials.read(tmp_path / "none", "000000000000") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no section",
        "[a]\naws_access_key_id = x\n",
        "[a]\naws_access_key_id=x\naws_secret_access_key=y\n[b]\naws_access_key_id=x\n"
        "aws_secret_access_key=z\n",
    ],
)
def test_a_credentials_file_that_lacks_something_is_refused_without_its_secrets(text):
    with pytest.raises(StartError) as refused:
        Credentials.parse(text, "credentials", "000000000000")
    assert "y" not in str(refused.value).split("credentials", 1)[0]
