"""The token server: gives tokens for keys, and says whether they count."""

import json
import logging
import secrets
from collections.abc import Mapping
from http import HTTPStatus

from multidict import CIMultiDict

from gateway.authn import oauth, tokens
from gateway.authn.asked import Asked, OAuthError, bad_client, wanted
from gateway.authn.check import Callers
from gateway.authn.directory import Party
from gateway.authn.oauth import Token
from gateway.authn.revoked import Revoked
from gateway.authn.signingkeys import SigningKeys
from gateway.call import Answer, Head
from gateway.keyring import Keyring
from gateway.keys import Key
from wherry.clock import Clock
from wherry.errors import WherryError

logger = logging.getLogger(__name__)

_CHALLENGE = 'Basic realm="wherry"'


class TokenServer:
    """Gives tokens for keys, and says whether they count.

    Args:
        keyring: Who may have tokens.
        callers: Of which consumers and apps.
        signing: Signs them.
        revoked: Those that were given back.
        clock: Where the time is read.

    Attributes:
        lasts: Seconds that a new token counts.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        callers: Callers,
        signing: SigningKeys,
        revoked: Revoked,
        clock: Clock,
    ) -> None:
        self._keyring, self._callers, self._signing = keyring, callers, signing
        self._revoked, self._clock = revoked, clock
        self.lasts = 900

    async def own(self, head: Head, body: bytes) -> Answer | None:
        """Answer a request to one of `oauth.PATHS`; None for any other."""
        where = head.path.text
        if where in (oauth.JWKS, oauth.METADATA):
            return self._document(head)
        if where not in oauth.PATHS:
            return None
        if head.method != "POST":
            return _not_allowed("POST")
        try:
            return await self._answered(where, head, body)
        except OAuthError as error:
            return _refused(error)
        except WherryError as error:
            logger.warning("token server failed", extra={"cause": type(error).__name__})
            return _refused(OAuthError("server_error", "try again", HTTPStatus.SERVICE_UNAVAILABLE))

    async def _answered(self, where: str, head: Head, body: bytes) -> Answer:
        kind = head.headers.get("Content-Type", "")
        asked = Asked.of(kind, head.headers.getall("Authorization", ()), body)
        key = self._client(asked)
        if where == oauth.TOKEN:
            return self._token(asked, key)
        if where == oauth.INTROSPECT:
            return await self._introspect(asked, key)
        return await self._revoke(asked, key)

    async def read(self, text: str) -> Token | None:
        """Return what ``text`` says if it is one of our tokens and counts, whatever wait it takes.

        Raises:
            StartError: The file of signing keys cannot be used any more.
        """
        opened = tokens.opened(text)
        if opened is None or opened.issuer != self._signing.signer.issuer:
            return None
        if not self._signing.signer.knows(opened):
            await self._signing.read_again()
        token = self._signing.signer.read(opened, self._clock.unix_ns() / 1e9)
        return token if token is not None and token.id not in self._revoked else None

    def _document(self, head: Head) -> Answer:
        if head.method not in {"GET", "HEAD"}:
            return _not_allowed("GET, HEAD")
        signer = self._signing.signer
        jwks = head.path.text == oauth.JWKS
        document = signer.public if jwks else oauth.metadata(signer.issuer)
        return _json(HTTPStatus.OK, document, {"Cache-Control": "max-age=300"})

    def _client(self, asked: Asked) -> Key:
        key = self._keyring.owner(asked.secret)
        if key is None or key.prefix != asked.client:
            raise bad_client()
        if self._callers.directory.blocked(key.consumer):
            raise bad_client()
        return key

    def _token(self, asked: Asked, key: Key) -> Answer:
        granted = self._callers.directory.granted(Party(key.consumer, key.app), key.scopes)
        scopes = wanted(asked, granted)
        now = self._clock.unix_ns() // 10**9
        ends = now + self.lasts
        if key.expires_ns is not None:
            ends = min(ends, key.expires_ns // 10**9)
        token = Token(secrets.token_urlsafe(16), key.prefix, scopes, now, ends)
        answer: dict[str, object] = {
            "access_token": self._signing.signer.signed(token),
            "token_type": "Bearer",
            "expires_in": ends - now,
        }
        if scopes is not None:
            answer["scope"] = " ".join(sorted(scopes))
        return _json(HTTPStatus.OK, answer)

    async def _introspect(self, asked: Asked, key: Key) -> Answer:
        """Tell of a token of the same consumer; of all others it says the same as of none."""
        token = await self.read(asked.required("token"))
        holder = None if token is None else self._keyring.live(token.client)
        if token is None or holder is None or holder.consumer != key.consumer:
            return _json(HTTPStatus.OK, {"active": False})
        return _json(HTTPStatus.OK, oauth.told(token, self._signing.signer.issuer))

    async def _revoke(self, asked: Asked, key: Key) -> Answer:
        """End a token of the same app; that of another, or none, changes nothing.

        Source: RFC 7009 section 2.2
        """
        token = await self.read(asked.required("token"))
        holder = None if token is None else self._keyring.live(token.client)
        if token is not None and holder is not None:
            if (holder.consumer, holder.app) != (key.consumer, key.app):
                raise OAuthError("unauthorized_client", "the token is another client's")
            await self._revoked.add(token.id, token.ends)
        return _json(HTTPStatus.OK, {})


def _json(
    status: HTTPStatus, document: Mapping[str, object], more: Mapping[str, str] | None = None
) -> Answer:
    headers = CIMultiDict({"Content-Type": "application/json", "Cache-Control": "no-store"})
    headers.update(more or {})
    return Answer(status, headers, json.dumps(document).encode())


def _refused(error: OAuthError) -> Answer:
    document = {"error": error.code, "error_description": error.description}
    more = {"WWW-Authenticate": _CHALLENGE} if error.status == HTTPStatus.UNAUTHORIZED else {}
    return _json(error.status, document, more)


def _not_allowed(methods: str) -> Answer:
    detail = f"only {methods} is taken here"
    answer = _refused(OAuthError("invalid_request", detail, HTTPStatus.METHOD_NOT_ALLOWED))
    answer.headers["Allow"] = methods
    return answer
