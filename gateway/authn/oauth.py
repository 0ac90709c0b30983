"""The gateway's own tokens: how they are signed and read, and what is told of them.

Source: RFC 9068, RFC 7662, RFC 7009, RFC 8414
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.authn import tokens
from gateway.authn.jwks import KeySet
from gateway.authn.tokens import Expected, Opened

TOKEN = "/.wherry/oauth2/token"  # noqa: S105
JWKS = "/.wherry/oauth2/jwks.json"
INTROSPECT = "/.wherry/oauth2/introspect"
REVOKE = "/.wherry/oauth2/revoke"
METADATA = "/.well-known/oauth-authorization-server"

PATHS = frozenset({TOKEN, JWKS, INTROSPECT, REVOKE, METADATA})
"""Paths that the token server answers."""

_TYPE = "at+jwt"


@dataclass(frozen=True, slots=True)
class Token:
    """What one of our tokens says.

    Attributes:
        id: Its own name.
        client: Prefix of the key that it was made for.
        scopes: What it grants; None is what the key does.
        made: Unix seconds when.
        ends: Unix seconds when it stops being accepted.
    """

    id: str
    client: str
    scopes: frozenset[str] | None
    made: int
    ends: int


class Signer:
    """The keys that sign our tokens: the first does, all verify.

    Args:
        seeds: Ed25519 private keys, 32 bytes each; one at least.
        issuer: What our tokens say they are from.

    Attributes:
        public: What others verify with, as a JWK set.
    """

    def __init__(self, seeds: Sequence[bytes], issuer: str) -> None:
        self.issuer = issuer
        self._private = [Ed25519PrivateKey.from_private_bytes(seed) for seed in seeds]
        public = [_jwk(key.public_key().public_bytes_raw()) for key in self._private]
        self.public: Mapping[str, Any] = {"keys": public}
        self._first: str = public[0]["kid"]
        self._keys = KeySet.of(self.public)

    def signed(self, token: Token) -> str:
        """Return ``token`` as text.

        Source: RFC 9068 section 2
        """
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.issuer,
            "sub": token.client,
            "client_id": token.client,
            "iat": token.made,
            "exp": token.ends,
            "jti": token.id,
        }
        if token.scopes is not None:
            claims["scope"] = " ".join(sorted(token.scopes))
        header = {"typ": _TYPE, "alg": "EdDSA", "kid": self._first}
        body = f"{_encoded(_json(header))}.{_encoded(_json(claims))}"
        return f"{body}.{_encoded(self._private[0].sign(body.encode()))}"

    def knows(self, token: Opened) -> bool:
        """Return whether one of our keys may have signed ``token``."""
        return token.key is not None and self._keys.has(token.key, token.algorithm)

    def read(self, token: Opened, now: float) -> Token | None:
        """Return what ``token`` says if it is one of ours and counts at ``now``; else None."""
        if token.header.get("typ") != _TYPE or not self.knows(token):
            return None
        if not self._keys.signed(token):
            return None
        expected = Expected(self.issuer, frozenset({self.issuer}))
        if tokens.fault(token.claims, expected, now) is not None:
            return None
        claims = token.claims
        granted = tokens.scopes(claims, "scope") if "scope" in claims else None
        return Token(
            str(claims.get("jti")),
            str(claims.get("client_id")),
            granted,
            int(claims.get("iat", 0)),
            int(claims["exp"]),
        )


def told(token: Token, issuer: str) -> Mapping[str, Any]:
    """Return what introspection says of a token that counts.

    Source: RFC 7662 section 2.2
    """
    found: dict[str, Any] = {
        "active": True,
        "client_id": token.client,
        "sub": token.client,
        "iss": issuer,
        "aud": issuer,
        "iat": token.made,
        "exp": token.ends,
        "jti": token.id,
        "token_type": "Bearer",
    }
    return found if token.scopes is None else found | {"scope": " ".join(sorted(token.scopes))}


def metadata(issuer: str) -> Mapping[str, Any]:
    """Return the description of the token server.

    Source: RFC 8414 section 2
    """
    ways = ["client_secret_basic", "client_secret_post"]
    return {
        "issuer": issuer,
        "token_endpoint": issuer + TOKEN,
        "token_endpoint_auth_methods_supported": ways,
        "jwks_uri": issuer + JWKS,
        "introspection_endpoint": issuer + INTROSPECT,
        "introspection_endpoint_auth_methods_supported": ways,
        "revocation_endpoint": issuer + REVOKE,
        "revocation_endpoint_auth_methods_supported": ways,
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
    }


def _jwk(public: bytes) -> dict[str, str]:
    """Return a public key with its thumbprint as name.

    Source: RFC 7638, RFC 8037
    """
    members = {"crv": "Ed25519", "kty": "OKP", "x": _encoded(public)}
    name = _encoded(sha256(_json(members)).digest())
    return {**members, "kid": name, "alg": "EdDSA", "use": "sig"}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
