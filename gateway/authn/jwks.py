"""Public keys of an issuer, and which of them may have signed what.

Source: RFC 7517, RFC 7518, RFC 8037
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import (
    ECAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    get_default_algorithms,
)
from jwt.exceptions import PyJWTError

from gateway.authn.tokens import Opened

MAX_KEYS = 100
"""Most keys of one issuer that are looked at."""

_MOST_TRIED = 4
_LEAST_RSA_BITS = 2048
_MOST_RSA_BITS = 8192

_PublicKey = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_BY_CURVE = {"secp256r1": frozenset({"ES256"}), "secp384r1": frozenset({"ES384"})}
_ALGORITHMS = get_default_algorithms()


@dataclass(frozen=True, slots=True)
class _Key:
    id: str | None
    algorithms: frozenset[str]
    public: _PublicKey


@dataclass(frozen=True, slots=True, eq=False)
class KeySet:
    """The keys of an issuer that can be used; others are left out.

    Attributes:
        document: What they were read from.
    """

    document: Mapping[str, Any]
    _keys: tuple[_Key, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Read a key set. Shared secrets, private keys and short RSA keys are left out.

        Raises:
            ValueError: It is no key set, or holds no key that can be used.
        """
        listed = document.get("keys")
        if not isinstance(listed, list):
            raise ValueError("key set: no list 'keys', expected one")  # noqa: TRY004
        keys = tuple(key for each in listed[:MAX_KEYS] if (key := _key(each)) is not None)
        if not keys:
            raise ValueError(f"key set: none of {len(listed)} keys can be used, expected one")
        return cls(document, keys)

    def has(self, key: str | None, algorithm: str) -> bool:
        """Return whether a signature by ``algorithm`` with that key can be looked at."""
        return bool(self._candidates(key, algorithm))

    def signed(self, token: Opened) -> bool:
        """Return whether one of the keys made the token's signature.

        A key verifies only what its type is for, whatever the token's header says. A token that
        names no key is tried with the first few that fit.
        """
        return any(
            _ALGORITHMS[token.algorithm].verify(token.signed, key.public, token.signature)
            for key in self._candidates(token.key, token.algorithm)
        )

    def _candidates(self, id_: str | None, algorithm: str) -> tuple[_Key, ...]:
        fit = (
            key
            for key in self._keys
            if algorithm in key.algorithms and (id_ is None or key.id == id_)
        )
        return tuple(fit)[:_MOST_TRIED]


def _key(written: object) -> _Key | None:
    if not isinstance(written, dict) or "d" in written:
        return None
    operations = written.get("key_ops", ["verify"])
    if written.get("use", "sig") != "sig" or not isinstance(operations, list):
        return None
    if "verify" not in operations:
        return None
    try:
        public = _public(written)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    algorithms = _algorithms(public)
    if written.get("alg") is not None:
        algorithms = algorithms & {str(written["alg"])}
    id_ = written.get("kid")
    if public is None or not algorithms:
        return None
    return _Key(id_ if isinstance(id_, str) else None, algorithms, public)


def _public(written: dict[str, Any]) -> _PublicKey | None:
    match written.get("kty"):
        case "RSA":
            found: object = RSAAlgorithm.from_jwk(written)
        case "EC":
            found = ECAlgorithm.from_jwk(written)
        case "OKP":
            found = OKPAlgorithm.from_jwk(written)
        case _:
            return None
    return found if isinstance(found, _PublicKey) else None


def _algorithms(public: _PublicKey | None) -> frozenset[str]:
    match public:
        case rsa.RSAPublicKey() if _LEAST_RSA_BITS <= public.key_size <= _MOST_RSA_BITS:
            return _RSA
        case ec.EllipticCurvePublicKey():
            return _BY_CURVE.get(public.curve.name, frozenset())
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return frozenset({"EdDSA"})
        case _:
            return frozenset()
