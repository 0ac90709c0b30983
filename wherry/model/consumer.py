"""Who calls: consumers, their apps, and what they subscribed to."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wherry.model.amount import Date, Zone
from wherry.model.resource import Name, Resource, Strict

Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a certificate's DER form, in lower-case hex."""


class Identity(Strict):
    """A caller by what an issuer says of them.

    Attributes:
        issuer: The token's ``iss``.
        subject: The token's ``sub``, ``client_id`` or ``azp``, as the method's ``claim`` says.
    """

    issuer: str = Field(min_length=1, max_length=2048)
    subject: str = Field(min_length=1, max_length=1024)


class App(Strict):
    """A program of a consumer; credentials are made for it.

    Attributes:
        name: Unique within the consumer.
        identities: Tokens that stand for it.
        certificates: Client certificates that stand for it.
        scopes: What its tokens and keys may be granted; None given is all.
    """

    name: Name
    title: str = Field(default="", max_length=200)
    identities: list[Identity] = Field(default=[], max_length=64)
    certificates: list[Fingerprint] = Field(default=[], max_length=64)
    scopes: list[str] = Field(default=[], max_length=256)


class Subscribed(Strict):
    """A product and the plan it is used under.

    Attributes:
        begins: First day; None is since ever.
        ends: First day that is no longer part of it; None is open.
    """

    product: Name
    plan: Name
    begins: Date | None = None
    ends: Date | None = None

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.begins and self.ends and self.ends <= self.begins:
            raise ValueError(f"ends {self.ends}, expected a day after it begins, {self.begins}")
        return self


class ConsumerSpec(Strict):
    """See `Consumer`.

    Attributes:
        title: Shown on invoices; None is the name.
        email: Of who signed up.
        timezone: Where their days and months begin.
        blocked: Whether every call is refused.
        apps: Beside ``default``, which every consumer has.
        subscriptions: Beside those of `Subscription` resources.
    """

    title: str | None = Field(default=None, max_length=200)
    email: str | None = Field(default=None, max_length=320)
    timezone: Zone = "UTC"
    blocked: bool = False
    apps: list[App] = Field(default=[], max_length=256)
    subscriptions: list[Subscribed] = Field(default=[], max_length=64)


class Consumer(Resource):
    """Who calls and pays; their keys are made with ``wherry key create`` or in the portal."""

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["Consumer"]
    spec: ConsumerSpec = ConsumerSpec()


class SubscriptionSpec(Subscribed):
    """See `Subscription`.

    Attributes:
        consumer: Who subscribes.
        app: Only this app of theirs; None is all.
        state: Calls count only while it is ``active``.
    """

    consumer: Name
    app: Name | None = None
    state: Literal["pending", "active", "suspended"] = "active"


class Subscription(Resource):
    """A consumer's use of a product under a plan, as a resource of its own."""

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["Subscription"]
    spec: SubscriptionSpec
