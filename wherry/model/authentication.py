"""Ways in which a caller of a product may say who they are."""

from typing import Annotated, Literal

from pydantic import Field

from wherry.model.resource import Duration, Name, Strict
from wherry.model.route import HeaderName

Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2048)]
"""An absolute URL over HTTP."""

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
"""Signatures of tokens by public keys; shared secrets are never taken."""


class ApiKey(Strict):
    """A key of ``wherry key create`` or the portal, in a header or a query parameter.

    Attributes:
        header: Where it is looked for; None is nowhere.
        query: The parameter; None is nowhere.
    """

    type: Literal["apiKey"] = "apiKey"
    header: HeaderName | None = "x-api-key"
    query: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = "apikey"


class Jwt(Strict):
    """A signed token of somebody else's issuer, as ``Authorization: Bearer``.

    Attributes:
        issuer: What its ``iss`` must be; with OpenID discovery when ``jwks_url`` is None.
        jwks_url: Where the issuer's keys are.
        jwks: The keys themselves, instead of a URL.
        audiences: Any of which its ``aud`` must hold; none given is not looked at.
        algorithms: Accepted signatures.
        claim: Which claim names the caller.
        consumer: Who calls when no app has the identity; None: then nobody does.
        scopes: Claim that holds what is granted: text with spaces, or a list.
        leeway: How much clocks may differ.
    """

    type: Literal["jwt"]
    issuer: str = Field(min_length=1, max_length=2048)
    jwks_url: Url | None = None
    jwks: dict[str, object] | None = None
    audiences: list[str] = Field(default=[], max_length=64)
    algorithms: list[Algorithm] = Field(default=["RS256", "ES256", "EdDSA"], min_length=1)
    claim: str = Field(default="sub", min_length=1, max_length=64)
    consumer: Name | None = None
    scopes: str = Field(default="scope", min_length=1, max_length=64)
    leeway: Duration = "30s"


class OAuth2(Strict):
    """A token of the gateway's own endpoint ``/.wherry/oauth2/token``."""

    type: Literal["oauth2"]


class Introspection(Strict):
    """An opaque token that another server knows about.

    Attributes:
        url: Its introspection endpoint.
        issuer: Stands for the server in the identities of apps.
        client_id: Who asks.
        client_secret_env: Environment variable that holds the secret.
        claim: Which member of the answer names the caller.
        cache: How long an answer counts; never beyond the token's ``exp``.
    """

    type: Literal["introspection"]
    url: Url
    issuer: str = Field(min_length=1, max_length=2048)
    client_id: str = Field(min_length=1, max_length=256)
    client_secret_env: str = Field(pattern=r"^[A-Z_][A-Z0-9_]{0,127}$")
    claim: str = Field(default="sub", min_length=1, max_length=64)
    consumer: Name | None = None
    cache: Duration = "30s"


class Hmac(Strict):
    """A request signed with the secret that belongs to a key.

    Attributes:
        headers: That must be among what is signed, beside method, path, query and date.
        skew: How far the request's date may be from now.
        digest: Whether a body must come with a signed ``Content-Digest``.
    """

    type: Literal["hmac"]
    headers: list[HeaderName] = Field(default=[], max_length=16)
    skew: Duration = "5m"
    digest: bool = True


class Mtls(Strict):
    """A client certificate that an app names, by the authority that the gateway trusts."""

    type: Literal["mtls"]


class Basic(Strict):
    """A key as a password: its prefix is the user name, the whole of it the password."""

    type: Literal["basic"]


class Anonymous(Strict):
    """Everyone, as a consumer who stands for strangers.

    Attributes:
        consumer: Whose subscription and limits count; limits count by address.
    """

    type: Literal["anonymous"]
    consumer: Name


Method = Annotated[
    ApiKey | Jwt | OAuth2 | Introspection | Hmac | Mtls | Basic | Anonymous,
    Field(discriminator="type"),
]
"""One way to authenticate."""
