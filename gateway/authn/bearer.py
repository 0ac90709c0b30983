"""What every way that takes a Bearer token has in common.

Source: RFC 6750
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from gateway.authn.check import REALM, Wrong, authorization
from gateway.authn.directory import Directory, Party
from gateway.call import Caller, Head
from wherry.model.authentication import Introspection, Jwt


class Bearer:
    """The part of a `Check` that takes tokens: where one stands, and what is said of it."""

    challenge = f'Bearer realm="{REALM}"'
    wanted = "a valid token as Authorization: Bearer"
    secret_fields: tuple[str, ...] = ("authorization",)
    parameter: str | None = None

    def shown(self, head: Head) -> str | None:
        """See `Check.shown`; any token is meant."""
        return authorization(head, "bearer")


_MOST_SUBJECT = 1024


def caller_of(
    claims: Mapping[str, Any],
    method: Jwt | Introspection,
    granted: frozenset[str],
    directory: Directory,
) -> Caller:
    """Return the caller that another server's ``claims`` name.

    Args:
        claims: That are to be believed.
        method: Which of them names the caller, and who that is without an app.
        granted: Scopes in them.
        directory: Who has which identity.

    Raises:
        Wrong: They name nobody.
    """
    subject = claims.get(method.claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= _MOST_SUBJECT:
        raise Wrong(f"The token has no claim {method.claim}.", error="invalid_token")
    if not _is_unicode(subject):
        raise Wrong(f"The token's claim {method.claim} is no text.", error="invalid_token")
    party = directory.by_identity(method.issuer, subject)
    if party is None and method.consumer is not None:
        party = Party(method.consumer)
    if party is None:
        raise Wrong("The token's subject is not registered.", error="invalid_token")
    named = sha256(f"{method.issuer}\n{subject}".encode()).hexdigest()[:16]
    return Caller(
        consumer=party.consumer,
        app=party.app,
        credential=f"jwt:{named}",
        method=method.type,
        scopes=directory.granted(party, granted),
        subject=subject,
    )


def _is_unicode(text: str) -> bool:
    """Return whether ``text`` has no half of a pair alone, which JSON can write and UTF-8 not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
