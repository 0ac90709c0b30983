"""How calls of a product say who calls, for people and for the form that tries one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

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
from wherry.model.product import ApiProductSpec


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a call carries a key.

    Attributes:
        kind: As a header, a parameter of the query, or the password of ``Authorization: Basic``.
        name: Of the header or parameter.
    """

    kind: Literal["header", "query", "basic"]
    name: str


def methods_of(product: ApiProductSpec, verb: str, path: str) -> Sequence[Method]:
    """Return how calls of an operation say who calls: as its route says, else as the product.

    Args:
        product: Whose operation it is.
        verb: Its HTTP method.
        path: As the portal shows it.
    """
    for route in product.routes:
        meant = not route.methods or verb in route.methods
        if meant and route.path.replace("+}", "}") == path:
            return product.authentication if route.authentication is None else route.authentication
    return product.authentication


def key_place(methods: Sequence[Method]) -> KeyPlace | None:
    """Return where a key goes; None when none of the methods takes a key as it is."""
    for method in methods:
        match method:
            case ApiKey(header=str(name)):
                return KeyPlace("header", name)
            case ApiKey(query=str(name)):
                return KeyPlace("query", name)
            case Basic():
                return KeyPlace("basic", "Authorization")
            case _:
                continue
    return None


def ways(product: ApiProductSpec, gateway_url: str) -> Iterator[str]:
    """Yield each way to say who calls; code stands between backticks."""
    for method in product.authentication:
        yield _way(method, gateway_url)


def _way(method: Method, gateway_url: str) -> str:
    match method:
        case ApiKey():
            places = [
                f"the {what} `{name}`"
                for what, name in (("header", method.header), ("parameter", method.query))
                if name
            ]
            said = f"Your key in {' or '.join(places)}."
        case Basic():
            said = "HTTP Basic: your key's prefix as the user, the whole key as the password."
        case OAuth2():
            said = (
                f"OAuth 2: ask `{gateway_url}/.wherry/oauth2/token` for a token by client "
                "credentials (your key's prefix and the whole key), and send it as "
                "`Authorization: Bearer`."
            )
        case Jwt() | Introspection():
            said = f"A token of `{method.issuer}` as `Authorization: Bearer`."
        case Hmac():
            said = "Requests signed with your key's signing secret (RFC 9421)."
        case Mtls():
            said = "A client certificate that the operator noted for your app."
        case Anonymous():
            said = "Or nothing: everyone may call, within narrow limits."
        case _:
            assert_never(method)
    return said
