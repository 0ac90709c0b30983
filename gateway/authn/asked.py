"""What is asked of the token server, and by whom.

Source: RFC 6749 sections 2.3, 3 and 4.4
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self
from urllib.parse import parse_qsl, unquote_plus

from gateway.authn.check import user_and_password
from gateway.authn.scope import is_scope
from wherry.errors import WherryError

MAX_FORM = 16 << 10
"""Most bytes of a request's form."""

_MOST_FIELDS = 32


class OAuthError(WherryError):
    """A request that the token server refuses.

    Attributes:
        code: Like ``invalid_scope``.
        description: For people.
        status: Of the answer.
    """

    def __init__(
        self, code: str, description: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST
    ) -> None:
        super().__init__(f"{code}: {description}")
        self.code, self.description, self.status = code, description, status


def bad_client() -> OAuthError:
    """Return the one answer to every client that does not prove who it is."""
    detail = "client_id must be a key's prefix and client_secret that key, live and in use"
    return OAuthError("invalid_client", detail, HTTPStatus.UNAUTHORIZED)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to the token server.

    Attributes:
        client: Who it says it is from.
        secret: With which proof.
        form: Its other fields.
    """

    client: str
    secret: str
    form: Mapping[str, str]

    @classmethod
    def of(cls, content_type: str, authorization: Sequence[str], body: bytes) -> Self:
        """Read a request.

        Args:
            content_type: Its ``Content-Type``.
            authorization: Every ``Authorization`` field of it.
            body: Its form.

        Raises:
            OAuthError: It is no form, a field stands twice, or nobody is named.

        Source: RFC 6749 sections 2.3.1 and 3.2
        """
        form = dict(_form(content_type, body))
        posted = form.pop("client_id", None), form.pop("client_secret", None)
        if not authorization:
            if posted[0] is None or posted[1] is None:
                raise bad_client()
            return cls(posted[0], posted[1], form)
        if len(authorization) > 1 or posted[1] is not None:
            raise OAuthError("invalid_request", "the client proves who it is more than once")
        client, secret = _basic(authorization[0])
        if posted[0] not in {None, client}:
            raise OAuthError("invalid_request", "two different clients are named")
        return cls(client, secret, form)

    def required(self, name: str) -> str:
        """Return the field ``name``.

        Raises:
            OAuthError: It is missing.
        """
        found = self.form.get(name)
        if not found:
            raise OAuthError("invalid_request", f"{name} is missing")
        return found


def wanted(asked: Asked, granted: frozenset[str] | None) -> frozenset[str] | None:
    """Return the scopes of a new token; None is whatever the key has.

    Args:
        asked: For client credentials.
        granted: What the key has; None is everything.

    Raises:
        OAuthError: It asks for another grant type, or for a scope that the key has not.

    Source: RFC 6749 sections 3.3 and 4.4.2
    """
    if asked.required("grant_type") != "client_credentials":
        raise OAuthError("unsupported_grant_type", "only client_credentials is supported")
    given = asked.form.get("scope")
    if given is None:
        return granted
    scopes = frozenset(given.split(" ")) - {""}
    if not scopes or not all(map(is_scope, scopes)):
        raise OAuthError("invalid_scope", "scope must be names with single spaces between them")
    if granted is not None and not scopes <= granted:
        raise OAuthError("invalid_scope", "the key is not granted every scope that is asked for")
    return scopes


def _form(content_type: str, body: bytes) -> Sequence[tuple[str, str]]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "the body must be application/x-www-form-urlencoded")
    if len(body) > MAX_FORM:
        raise OAuthError("invalid_request", f"the body is over {MAX_FORM} bytes")
    try:
        fields = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise OAuthError("invalid_request", "the body is no form") from None
    if len({name for name, _ in fields}) != len(fields):
        raise OAuthError("invalid_request", "a field stands twice")
    return fields


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, credential = authorization.partition(" ")
    pair = user_and_password(credential.strip(" ")) if scheme.lower() == "basic" else None
    if pair is None:
        raise bad_client()
    return unquote_plus(pair[0]), unquote_plus(pair[1])
