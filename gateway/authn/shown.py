"""Credentials that are shown as they are: keys, certificates, and none at all."""

from hashlib import sha256

from gateway import path
from gateway.authn.check import (
    REALM,
    AtOnce,
    BadMethod,
    Callers,
    Wrong,
    authorization,
    user_and_password,
)
from gateway.call import Caller, Head
from gateway.keyring import Keyring
from wherry.model.authentication import Anonymous, ApiKey

_EXPLAINED = {
    "revoked": "The key is revoked.",
    "expired": "The key is expired.",
    "unknown": "The key is not known.",
}


class ByKey(AtOnce):
    """An API key in a header or a query parameter; see `Check`."""

    def __init__(self, method: ApiKey, keyring: Keyring, callers: Callers) -> None:
        if method.header is None and method.query is None:
            raise BadMethod("apiKey: neither header nor query, expected at least one of them")
        places = []
        challenge = [f'ApiKey realm="{REALM}"']
        if method.header is not None:
            places.append(f"the header {method.header}")
            challenge.append(f'header="{method.header}"')
        if method.query is not None:
            places.append(f"the parameter {method.query}")
            if method.header is None:
                challenge.append(f'parameter="{method.query}"')
        self.challenge = ", ".join(challenge)
        self.wanted = f"a valid key in {' or '.join(places)}"
        self.secret_fields: tuple[str, ...] = (method.header.lower(),) if method.header else ()
        self.parameter: str | None = method.query
        self._header, self._keyring, self._callers = method.header, keyring, callers

    def shown(self, head: Head) -> str | None:
        """See `Check.shown`; of header and parameter the header counts."""
        if self._header is not None:
            given = head.headers.getall(self._header, None)
            if given is not None:
                return given[0] if len(given) == 1 else ""
        if self.parameter is not None and head.query:
            return path.without(head.query, self.parameter)[1]
        return None

    def quick(self, head: Head, shown: str) -> Caller:
        """See `Check.quick`."""
        del head
        return of_text(shown, "apiKey", self._keyring, self._callers)


class ByPassword(AtOnce):
    """A key's prefix as user name and the key as password; see `Check`.

    Source: RFC 7617
    """

    challenge = f'Basic realm="{REALM}", charset="UTF-8"'
    wanted = "a key's prefix and the key as user name and password"
    secret_fields: tuple[str, ...] = ("authorization",)
    parameter: str | None = None

    def __init__(self, keyring: Keyring, callers: Callers) -> None:
        self._keyring, self._callers = keyring, callers

    def shown(self, head: Head) -> str | None:
        """See `Check.shown`."""
        return authorization(head, "basic")

    def quick(self, head: Head, shown: str) -> Caller:
        """See `Check.quick`."""
        del head
        pair = user_and_password(shown)
        if pair is None:
            raise Wrong
        user, password = pair
        caller = of_text(password, "basic", self._keyring, self._callers)
        if caller.credential != user:
            raise Wrong
        return caller


class ByCertificate(AtOnce):
    """A client certificate that an app names; see `Check`."""

    challenge = f'ClientCertificate realm="{REALM}"'
    wanted = "a client certificate that is registered"
    secret_fields: tuple[str, ...] = ()
    parameter: str | None = None

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    def shown(self, head: Head) -> str | None:
        """See `Check.shown`; the fingerprint of the certificate."""
        return None if head.certificate is None else sha256(head.certificate).hexdigest()

    def quick(self, head: Head, shown: str) -> Caller:
        """See `Check.quick`."""
        del head
        directory = self._callers.directory
        party = directory.by_certificate(shown)
        if party is None:
            raise Wrong("The certificate is not registered.")
        scopes = directory.granted(party, None)
        return Caller(party.consumer, party.app, f"cert:{shown[:16]}", "mtls", scopes)


class Anybody(AtOnce):
    """Everyone, as the consumer that stands for strangers; see `Check`."""

    challenge = ""
    wanted = "nothing"
    secret_fields: tuple[str, ...] = ()
    parameter: str | None = None

    def __init__(self, method: Anonymous, callers: Callers) -> None:
        self._consumer, self._callers = method.consumer, callers

    def shown(self, head: Head) -> str | None:
        """See `Check.shown`; every request carries it."""
        return head.peer

    def quick(self, head: Head, shown: str) -> Caller:
        """See `Check.quick`; limits count by the credential, which is the address."""
        del head
        return Caller(
            consumer=self._consumer,
            app="default",
            credential=f"address:{shown}",
            method="anonymous",
            scopes=frozenset(),
        )


def of_text(text: str, method: str, keyring: Keyring, callers: Callers) -> Caller:
    """Return the caller whose key ``text`` is.

    Raises:
        Wrong: It is no key that counts.
    """
    key = keyring.owner(text)
    if key is None:
        raise Wrong(_EXPLAINED.get(keyring.verdict(text)) if callers.explain else None)
    return callers.of_key(key, method)
