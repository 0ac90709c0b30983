"""AWS Signature Version 4, the verifying side. Pure; the time is an argument.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self
from urllib.parse import quote, unquote

from faas.api.faults import (
    SignatureIncomplete,
    SignatureMissing,
    SignatureWrong,
    SignerUnknown,
)

SKEW = timedelta(minutes=5)
MAX_EXPIRES = 7 * 24 * 3600
UNSIGNED = "UNSIGNED-PAYLOAD"
_ALGORITHM = "AWS4-HMAC-SHA256"
_STAMP = "%Y%m%dT%H%M%SZ"
_PART = re.compile(r"\s*([A-Za-z]+)=([^,\s]+)\s*")
_SIGNATURE = "X-Amz-Signature"
_AS_BYTES = "surrogateescape"
"""How what is not UTF-8 came out of the request's bytes, and goes into them again."""
_EXPIRES = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Key:
    """An access key.

    Attributes:
        token: Session token that must come with it; empty: none.
        caller: ARN of whose it is.
    """

    id: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)
    caller: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signature has to be for."""

    region: str
    service: str


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it came over the wire, without its body.

    Attributes:
        path: Percent-encoded as it came.
        query: The same, without the question mark.
        headers: By name in lower case; several of one name joined by commas.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]

    @property
    def trace_id(self) -> str:
        """``X-Amzn-Trace-Id``, or else ``traceparent``, as it came; empty: none."""
        return self.headers.get("x-amzn-trace-id") or self.headers.get("traceparent", "")


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a request says that it is from; true once `confirm` accepts the body."""

    sent: Sent
    key: Key
    stamp: str
    scope: tuple[str, ...]
    signed: tuple[str, ...]
    signature: str
    presigned: bool

    @classmethod
    def of(cls, sent: Sent, keys: Mapping[str, Key], scope: Scope, now: datetime) -> Self:
        """Read who signed ``sent``, for what and when.

        Args:
            sent: The request.
            keys: By their ids.
            scope: What a signature has to be for.
            now: With a zone.

        Raises:
            SignatureMissing: It is not signed.
            SignatureIncomplete: A part of its signature is missing.
            SignerUnknown: Nobody has its key.
            SignatureWrong: It is of another time, for another service or covers too little.
        """
        presigned = "authorization" not in sent.headers
        parts = _presigned(sent) if presigned else _authorization(sent)
        key_id, *named = parts["Credential"].split("/")
        if len(named) != 4:  # noqa: PLR2004
            raise SignatureIncomplete(
                "Credential must have exactly 5 slash-delimited elements, e.g. "
                f"keyid/date/region/service/term, got '{'/'.join(named)}'"
            )
        key = keys.get(key_id)
        token = parts.get("Token", "")
        if key is None or not hmac.compare_digest(key.token.encode(), _bytes(token)):
            raise SignerUnknown("The security token included in the request is invalid.")
        _refuse_other_scope(named, scope, parts["Date"])
        _refuse_other_time(parts["Date"], now, parts.get("Expires"))
        signed = tuple(parts["SignedHeaders"].lower().split(";"))
        _refuse_uncovered(sent, signed)
        return cls(sent, key, parts["Date"], tuple(named), signed, parts["Signature"], presigned)

    def confirm(self, body_sha256: str) -> str:
        """Return the ARN of who signed the request.

        Args:
            body_sha256: Of the request's body, in hex.

        Raises:
            SignatureWrong: The signature is not what the key gives for this request.
        """
        said = self.sent.headers.get("x-amz-content-sha256")
        if said not in (None, UNSIGNED, body_sha256):
            raise SignatureWrong(
                "The provided 'x-amz-content-sha256' header does not match what was computed."
            )
        canonical = canonical_request(
            self.sent, self.signed, said or body_sha256, leave_out=_SIGNATURE
        )
        digest = hashlib.sha256(_bytes(canonical)).hexdigest()
        text = "\n".join((_ALGORITHM, self.stamp, "/".join(self.scope), digest))
        expected = hmac.new(self._signing_key(), text.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), _bytes(self.signature)):
            raise SignatureWrong(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method. Consult the service "
                "documentation for details."
            )
        return self.key.caller

    def _signing_key(self) -> bytes:
        found = b"AWS4" + self.key.secret.encode()
        for part in self.scope:
            found = hmac.new(found, part.encode(), hashlib.sha256).digest()
        return found


def canonical_request(
    sent: Sent, signed: tuple[str, ...], body_sha256: str, *, leave_out: str = ""
) -> str:
    """Return what is signed of a request.

    Args:
        sent: The request.
        signed: Names of the headers that count, in lower case.
        body_sha256: In hex, or `UNSIGNED`.
        leave_out: A parameter of the query that does not count.
    """
    pairs = sorted(
        (_encoded(_decoded(name)), _encoded(_decoded(value)))
        for name, _, value in (part.partition("=") for part in sent.query.split("&") if part)
        if name != leave_out
    )
    headers = "".join(f"{name}:{' '.join(sent.headers.get(name, '').split())}\n" for name in signed)
    return "\n".join(
        (
            sent.method,
            quote(_without_dots(sent.path), safe="/~", errors=_AS_BYTES),
            "&".join(f"{name}={value}" for name, value in pairs),
            headers,
            ";".join(signed),
            body_sha256,
        )
    )


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~", errors=_AS_BYTES)


def _decoded(text: str) -> str:
    return unquote(text, errors=_AS_BYTES)


def _bytes(text: str) -> bytes:
    return text.encode(errors=_AS_BYTES)


def _without_dots(path: str) -> str:
    """Return a path without empty and dot segments; a slash at its end stays."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            kept = kept[:-1]
        elif segment not in ("", "."):
            kept.append(segment)
    end = "/" if kept and path.endswith("/") else ""
    return f"/{'/'.join(kept)}{end}"


def _authorization(sent: Sent) -> dict[str, str]:
    algorithm, _, rest = sent.headers["authorization"].partition(" ")
    if algorithm != _ALGORITHM:
        raise SignatureIncomplete(
            f"Unsupported AWS 'algorithm': '{algorithm[:40]}', expected {_ALGORITHM}"
        )
    found = {match[1]: match[2] for match in map(_PART.fullmatch, rest.split(",")) if match}
    date = sent.headers.get("x-amz-date") or ""
    given = found | {"Date": date} if date else found
    return _complete(given, "Authorization header") | {
        "Token": sent.headers.get("x-amz-security-token", "")
    }


def _presigned(sent: Sent) -> dict[str, str]:
    pairs = (part.partition("=") for part in sent.query.split("&"))
    query = {unquote(name): unquote(value) for name, _, value in pairs}
    if "X-Amz-Algorithm" not in query and _SIGNATURE not in query:
        raise SignatureMissing("Missing Authentication Token")
    if query.get("X-Amz-Algorithm") != _ALGORITHM:
        raise SignatureIncomplete(f"X-Amz-Algorithm: expected {_ALGORITHM}")
    names = ("Credential", "SignedHeaders", "Signature", "Date", "Expires")
    found = {name: query[f"X-Amz-{name}"] for name in names if f"X-Amz-{name}" in query}
    if "Expires" not in found:
        raise SignatureIncomplete("AWS query-string parameters must include 'X-Amz-Expires'.")
    return _complete(found, "AWS query-string parameters") | {
        "Token": query.get("X-Amz-Security-Token", "")
    }


def _complete(found: dict[str, str], where: str) -> dict[str, str]:
    for name in ("Credential", "Signature", "SignedHeaders"):
        if not found.get(name):
            raise SignatureIncomplete(f"{where} requires '{name}' parameter.")
    if not found.get("Date"):
        raise SignatureIncomplete(f"{where} requires existence of a 'X-Amz-Date'.")
    return found


def _refuse_other_scope(named: list[str], scope: Scope, stamp: str) -> None:
    date, region, service, end = named
    if service != scope.service:
        raise SignatureWrong(f"Credential should be scoped to correct service: '{scope.service}'.")
    if region != scope.region:
        raise SignatureWrong(f"Credential should be scoped to a valid region: '{scope.region}'.")
    if end != "aws4_request":
        raise SignatureWrong("Credential should be scoped with a valid terminator: 'aws4_request'.")
    if date != stamp[:8]:
        raise SignatureWrong(
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date "
            f"from HTTP: '{date[:20]}' != '{stamp[:8]}'."
        )


def _refuse_other_time(stamp: str, now: datetime, expires: str | None) -> None:
    try:
        at = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        raise SignatureIncomplete(
            f"Date must be in ISO-8601 'basic format'. Got '{stamp[:40]}'."
        ) from None
    lasts = SKEW
    if expires is not None:
        if not _EXPIRES.fullmatch(expires) or int(expires) > MAX_EXPIRES:
            raise SignatureIncomplete(f"X-Amz-Expires: expected 0 to {MAX_EXPIRES} seconds")
        lasts = timedelta(seconds=int(expires))
    if at > now + SKEW:
        raise SignatureWrong(
            f"Signature not yet current: {stamp} is still later than "
            f"{(now + SKEW).strftime(_STAMP)} ({now.strftime(_STAMP)} + 5 min.)"
        )
    if at < now - lasts:
        raise SignatureWrong(
            f"Signature expired: {stamp} is now earlier than "
            f"{(now - lasts).strftime(_STAMP)} ({now.strftime(_STAMP)} - "
            f"{lasts.total_seconds() / 60:g} min.)"
        )


def _refuse_uncovered(sent: Sent, signed: tuple[str, ...]) -> None:
    """Refuse a signature that leaves out what changes the request's meaning."""
    if "host" not in signed:
        raise SignatureWrong(
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
        )
    for name in sent.headers:
        if name.startswith("x-amz-") and name not in signed:
            raise SignatureWrong(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")
