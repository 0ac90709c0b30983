"""What happens to the requests of a product on their way."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from wherry.model.amount import Meter
from wherry.model.resource import Duration, Strict
from wherry.model.route import HeaderModifier, HeaderName, HeaderValue, Method

Network = Annotated[str, Field(pattern=r"^[0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?$")]
"""An IP address or a CIDR block."""

Pointer = Annotated[str, Field(pattern=r"^(/[^/]*)+$", max_length=512)]
"""A place in a JSON document, by RFC 6901."""


class Cors(Strict):
    """What pages of other origins may do.

    Attributes:
        origins: Exact, ``https://*.example.com``, or ``*``.
        max_age: How long a browser may remember it.
    """

    origins: list[str] = Field(min_length=1, max_length=64)
    methods: list[Method] = Field(default=["GET", "HEAD", "POST"], max_length=9)
    headers: list[HeaderName] = Field(default=[], max_length=64)
    expose: list[HeaderName] = Field(default=[], max_length=64)
    credentials: bool = False
    max_age: Duration = "10m"

    @model_validator(mode="after")
    def _credentials_are_for_someone(self) -> Self:
        if self.credentials and "*" in self.origins:
            raise ValueError("cors: credentials for origin '*', expected origins by name")
        return self


class Cache(Strict):
    """Answers that are kept, as RFC 9111 has it for shared caches.

    Attributes:
        default: How long an answer that says nothing counts; None: it is not kept.
        most_bytes: Larger answers are not kept.
        by_consumer: Whether each consumer has answers of their own.
        methods: Of requests whose answers are kept.
    """

    default: Duration | None = None
    most_bytes: int = Field(default=1 << 20, ge=0, le=16 << 20)
    by_consumer: bool = True
    methods: list[Literal["GET", "HEAD"]] = ["GET", "HEAD"]


class BodyChange(Strict):
    """Changes to a JSON body: ``remove`` first, then ``set``.

    Attributes:
        set: Values by place; missing objects on the way are made.
        remove: Places that go, if they are there.
    """

    set: dict[Pointer, Any] = Field(default={}, max_length=64)
    remove: list[Pointer] = Field(default=[], max_length=64)


class QueryChange(Strict):
    """Changes to the query: ``remove`` first, then ``set``, then ``add``."""

    set: dict[str, str] = Field(default={}, max_length=32)
    add: dict[str, str] = Field(default={}, max_length=32)
    remove: list[str] = Field(default=[], max_length=32)


class RequestChange(Strict):
    """Changes to a request before it is sent on."""

    headers: HeaderModifier = HeaderModifier()
    query: QueryChange = QueryChange()
    body: BodyChange | None = None


class ResponseChange(Strict):
    """Changes to an answer before it is sent back."""

    headers: HeaderModifier = HeaderModifier()
    body: BodyChange | None = None


class Transform(Strict):
    """Changes on the way there and back."""

    request: RequestChange = RequestChange()
    response: ResponseChange = ResponseChange()


class Retries(Strict):
    """When a request is sent once more.

    Attributes:
        attempts: Beside the first.
        on: Answers for which; ``connect`` and ``reset`` are broken connections.
        methods: Only requests that may be repeated (RFC 9110 section 9.2.2).
        budget_percent: Most retries for each hundred requests, over ten seconds.
        per_try: Seconds that each try may take; None is the route's timeout for all.
    """

    attempts: int = Field(default=2, ge=1, le=5)
    on: list[Literal["connect", "reset", "502", "503", "504"]] = ["connect", "reset", "503"]
    methods: list[Method] = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"]
    budget_percent: int = Field(default=20, ge=0, le=100)
    per_try: Duration | None = None


class Breaker(Strict):
    """When an upstream is left alone.

    Attributes:
        failures: 5xx answers and broken connections in a row after which it opens.
        open_for: How long; then single requests are let through, and one that is good closes it.
    """

    failures: int = Field(default=10, ge=1, le=10_000)
    open_for: Duration = "10s"


class Maintenance(Strict):
    """Everything is answered with 503.

    Attributes:
        message: Said in the problem document.
        retry_after: Told to callers.
    """

    message: str = Field(default="Down for maintenance.", max_length=500)
    retry_after: Duration = "60s"


class Addresses(Strict):
    """Who may call by their address; ``deny`` first, and ``allow`` if it is given."""

    allow: list[Network] = Field(default=[], max_length=1024)
    deny: list[Network] = Field(default=[], max_length=1024)


class Validate(Strict):
    """Requests and answers are held against the product's OpenAPI document.

    Attributes:
        requests: Refused with 400 and every violation's place.
        responses: An answer that violates it is replaced by 502 (``refuse``), only logged and
            counted (``report``), or not looked at.
    """

    requests: bool = True
    responses: Literal["off", "report", "refuse"] = "off"


class Metered(Strict):
    """A meter that the answer says the amount of.

    Attributes:
        meter: Its name.
        header: Header that holds a number; it is not sent on.
        body: Place of a number in the JSON answer.
        value: ``bytesIn``, ``bytesOut`` or ``milliseconds`` of the call.
    """

    meter: Meter
    header: HeaderName | None = None
    body: Pointer | None = None
    value: Literal["bytesIn", "bytesOut", "milliseconds"] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(each is not None for each in (self.header, self.body, self.value)) != 1:
            raise ValueError(
                f"meter {self.meter!r}: expected exactly one of header, body and value"
            )
        if self.meter == "requests":
            raise ValueError("meter 'requests', expected another name: every call counts it")
        return self


class Traffic(Strict):
    """Policies of a product; a route's own take the place of the product's, one by one.

    Attributes:
        max_calls: Most calls of the route or product under way at once; None is no limit.
    """

    cors: Cors | None = None
    cache: Cache | None = None
    transform: Transform | None = None
    retries: Retries | None = None
    breaker: Breaker | None = None
    maintenance: Maintenance | None = None
    addresses: Addresses | None = None
    validate_: Validate | None = Field(default=None, alias="validate")
    meters: list[Metered] = Field(default=[], max_length=16)
    max_calls: int | None = Field(default=None, ge=1, le=1_000_000)


class Fixed(Strict):
    """An answer that is made here.

    Attributes:
        json_: Body, as JSON; or ``text``.
    """

    status: int = Field(default=200, ge=200, le=599)
    headers: list[HeaderValue] = Field(default=[], max_length=32)
    json_: Any = Field(default=None, alias="json")
    text: str | None = Field(default=None, max_length=1 << 20)

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.json_ is not None and self.text is not None:
            raise ValueError("mock: json and text, expected one of them")
        return self
