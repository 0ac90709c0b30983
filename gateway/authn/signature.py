"""Signatures over requests: what was signed, by which key, and when.

Source: RFC 9421, RFC 9530
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Self

from gateway.authn import structured
from gateway.authn.structured import Item
from gateway.call import Head
from gateway.keys import prefix_form

ALGORITHM = "hmac-sha256"
"""The only one."""

_PATHS = frozenset({"@path", "@request-target", "@target-uri"})
_QUERIES = frozenset({"@query", "@request-target", "@target-uri"})
_PORTS = {"http": ":80", "https": ":443"}
_MOST_SIGNATURES = 8


class BadSignature(ValueError):
    """A request's signature cannot be looked at; the text says why, as a sentence."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature of a request.

    Attributes:
        key: Prefix of the key that it says it is by.
        covered: Names of what is signed.
        made: Unix seconds when, by the parameter ``created`` or else the signed ``Date``.
        ends: Unix seconds from when it must not be accepted; None is as its receiver likes.
        nonce: What no other request has: its nonce, or else the signature itself.
        value: The signature.
        base: What it is over.
    """

    key: str
    covered: tuple[str, ...]
    made: int
    ends: int | None
    nonce: bytes
    value: bytes
    base: bytes

    @classmethod
    def of(cls, head: Head) -> Self:
        """Read the first signature of ``head`` that names a key of ours.

        Raises:
            BadSignature: There is none, or it is not of the form that we take.

        Source: RFC 9421 sections 2 and 3.2
        """
        try:
            inputs = structured.dictionary(_joined(head, "signature-input"))
            values = structured.dictionary(_joined(head, "signature"))
        except ValueError:
            raise BadSignature("Signature-Input or Signature is malformed.") from None
        for label, given in list(inputs.items())[:_MOST_SIGNATURES]:
            key = given.parameters.get("keyid")
            if isinstance(key, str) and prefix_form(key):
                value = values.get(label)
                if value is None or not isinstance(value.value, bytes):
                    raise BadSignature(f"There is no Signature {label[:40]!r}.")
                return cls.made_of(head, key, given, value.value)
        raise BadSignature("No signature names a key's prefix as its keyid.")

    @classmethod
    def made_of(cls, head: Head, key: str, given: Item, value: bytes) -> Self:
        """Return the signature ``value`` of ``head``.

        Args:
            head: Of the request.
            key: Who says to have signed.
            given: What the request says was signed.
            value: The signature.

        Raises:
            BadSignature: It is not of the form that we take.

        Source: RFC 9421 section 2.5
        """
        if given.parameters.get("alg", ALGORITHM) != ALGORITHM:
            raise BadSignature(f"The signature's algorithm must be {ALGORITHM}.")
        covered = _covered(given)
        ends, nonce = given.parameters.get("expires"), given.parameters.get("nonce")
        lines = [f'"{name}": {_component(head, name)}' for name in covered]
        lines.append(f'"@signature-params": {structured.written(given)}')
        return cls(
            key=key,
            covered=covered,
            made=_made(head, covered, given),
            ends=ends if isinstance(ends, int) else None,
            nonce=nonce.encode() if isinstance(nonce, str) else value,
            value=value,
            base="\n".join(lines).encode("utf-8", "surrogateescape"),
        )


def expect_covered(
    head: Head, covered: Sequence[str], headers: Sequence[str], *, digest: bool
) -> None:
    """Check that everything that must be is among what is ``covered``.

    Args:
        head: Of the request.
        covered: What is signed.
        headers: Lower-case header fields that must be.
        digest: Whether a body must come with a signed digest.

    Raises:
        BadSignature: Something is not.
    """
    signed = frozenset(covered)
    lacking = [name for name in ("@method", *headers) if name not in signed]
    if not signed & _PATHS:
        lacking.append("@path")
    if head.query and not signed & _QUERIES:
        lacking.append("@query")
    if digest and has_body(head) and "content-digest" not in signed:
        lacking.append("content-digest")
    if lacking:
        raise BadSignature(f"The signature does not cover {', '.join(lacking)}.")


def has_body(head: Head) -> bool:
    """Return whether the request says that a body follows."""
    length = head.headers.get("Content-Length", "0")
    return "Transfer-Encoding" in head.headers or length.strip("0") != ""


def body_digest(head: Head) -> bytes:
    """Return the SHA-256 that ``Content-Digest`` says the body has.

    Raises:
        BadSignature: It says none.

    Source: RFC 9530 section 2
    """
    try:
        found = structured.dictionary(_joined(head, "content-digest")).get("sha-256")
    except ValueError:
        raise BadSignature("Content-Digest is malformed.") from None
    if (
        found is None
        or not isinstance(found.value, bytes)
        or len(found.value) != sha256().digest_size
    ):
        raise BadSignature("Content-Digest has no sha-256.")
    return found.value


def _covered(given: Item) -> tuple[str, ...]:
    if not isinstance(given.value, tuple):
        raise BadSignature("Signature-Input is no list of what is signed.")
    names = []
    for each in given.value:
        if not isinstance(each.value, str) or each.value != each.value.lower():
            raise BadSignature("What is signed must be named in lower case, as strings.")
        if each.parameters:
            raise BadSignature(f"Parameters of {each.value[:40]!r} are not supported.")
        names.append(each.value)
    if len(set(names)) != len(names):
        raise BadSignature("Something is signed twice.")
    return tuple(names)


def _made(head: Head, covered: Sequence[str], given: Item) -> int:
    created = given.parameters.get("created")
    if isinstance(created, int) and not isinstance(created, bool):
        return created
    if created is not None or "date" not in covered:
        raise BadSignature("The signature has no time: created, or a signed Date.")
    try:
        return int(parsedate_to_datetime(_joined(head, "date")).timestamp())
    except (ValueError, OverflowError):
        raise BadSignature("The Date is malformed.") from None


def _component(head: Head, name: str) -> str:
    if name.startswith("@"):
        derived = _DERIVED.get(name)
        if derived is None:
            raise BadSignature(f"The component {name[:40]!r} is not supported.")
        return derived(head)
    if name not in head.headers:
        raise BadSignature(f"The header {name[:40]!r} is signed but not there.")
    return _joined(head, name)


def _target(head: Head) -> str:
    return f"{head.path.text}?{head.query}" if head.query else head.path.text


def _authority(head: Head) -> str:
    return head.headers.get("Host", "").lower().removesuffix(_PORTS.get(head.scheme, ""))


def _joined(head: Head, name: str) -> str:
    return ", ".join(line.strip(" \t") for line in head.headers.getall(name, ()))


_DERIVED: Mapping[str, Callable[[Head], str]] = {
    "@method": lambda head: head.method,
    "@path": lambda head: head.path.text,
    "@query": lambda head: f"?{head.query}",
    "@request-target": _target,
    "@scheme": lambda head: head.scheme,
    "@authority": _authority,
    "@target-uri": lambda head: f"{head.scheme}://{_authority(head)}{_target(head)}",
}
