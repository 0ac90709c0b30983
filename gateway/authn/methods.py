"""Ways to authenticate, from how they are written to how they are used."""

import asyncio
import os
from weakref import WeakValueDictionary

from gateway.authn.check import BadMethod, Callers, Check
from gateway.authn.issuers import Issuer
from gateway.authn.jwks import KeySet
from gateway.authn.opaque import ByOpaqueToken
from gateway.authn.own import ByOwnToken
from gateway.authn.revoked import Revoked
from gateway.authn.server import TokenServer
from gateway.authn.shown import Anybody, ByCertificate, ByKey, ByPassword
from gateway.authn.signed import BySignature, Replays
from gateway.authn.signedtoken import BySignedToken
from gateway.authn.signingkeys import SigningKeys
from gateway.authn.web import Web
from gateway.keyring import Keyring
from wherry.clock import Clock
from wherry.model.authentication import (
    Anonymous,
    ApiKey,
    Basic,
    Hmac,
    Introspection,
    Jwt,
    Method,
    Mtls,
    OAuth2,
)


class Methods:
    """Makes checks; the same method twice is the same check, as long as anyone uses it.

    So what a check remembers outlives a reload of the configuration.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        callers: Callers,
        clock: Clock,
        web: Web,
        tasks: asyncio.TaskGroup,
        server: TokenServer,
        signing: SigningKeys,
        revoked: Revoked,
        replays: Replays,
    ) -> None:
        self._keyring, self._callers, self._clock = keyring, callers, clock
        self._web, self._tasks, self._replays = web, tasks, replays
        self._own = server, signing, revoked
        self._checks: WeakValueDictionary[str, Check] = WeakValueDictionary()
        self._issuers: WeakValueDictionary[tuple[str, str | None], Issuer] = WeakValueDictionary()

    def check(self, method: Method) -> Check:
        """Return ``method`` ready to use.

        Raises:
            BadMethod: It cannot be used as it is written.
        """
        name = f"{method.type} {method.model_dump_json()}"
        check = self._checks.get(name)
        if check is None:
            check = self._checks[name] = self._made(method)
        return check

    def _made(self, method: Method) -> Check:
        made: Check
        match method:
            case ApiKey():
                made = ByKey(method, self._keyring, self._callers)
            case Basic():
                made = ByPassword(self._keyring, self._callers)
            case Mtls():
                made = ByCertificate(self._callers)
            case Anonymous():
                made = Anybody(method, self._callers)
            case Hmac():
                made = BySignature(method, self._keyring, self._callers, self._replays)
            case OAuth2():
                made = self._own_token()
            case Jwt():
                made = self._signed_token(method)
            case Introspection():
                made = self._opaque_token(method)
        return made

    def _own_token(self) -> Check:
        server, signing, revoked = self._own
        return ByOwnToken(
            server,
            keyring=self._keyring,
            callers=self._callers,
            signing=signing,
            revoked=revoked,
            clock=self._clock,
        )

    def _signed_token(self, method: Jwt) -> Check:
        keys, issuer = None, None
        if method.jwks is None:
            issuer = self._issuer(method)
        else:
            try:
                keys = KeySet.of(method.jwks)
            except ValueError as error:
                raise BadMethod(f"jwt {method.issuer!r}: {error}") from None
        return BySignedToken(
            method, issuer=issuer, keys=keys, callers=self._callers, clock=self._clock
        )

    def _issuer(self, method: Jwt) -> Issuer:
        if method.jwks_url is None and not method.issuer.startswith(("https://", "http://")):
            raise BadMethod(
                f"jwt {method.issuer!r}: no URL, expected jwksUrl or jwks beside such an issuer"
            )
        name = method.issuer, method.jwks_url
        issuer = self._issuers.get(name)
        if issuer is None:
            issuer = self._issuers[name] = Issuer(
                *name, web=self._web, clock=self._clock, tasks=self._tasks
            )
        return issuer

    def _opaque_token(self, method: Introspection) -> Check:
        secret = os.environ.get(method.client_secret_env)
        if not secret:
            raise BadMethod(
                f"introspection {method.url!r}: environment variable "
                f"{method.client_secret_env} is not set, expected the client's secret"
            )
        return ByOpaqueToken(
            method,
            secret,
            web=self._web,
            callers=self._callers,
            clock=self._clock,
            tasks=self._tasks,
        )
