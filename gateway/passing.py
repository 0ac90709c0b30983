"""One call on its way: everything known of it so far."""

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus

from multidict import CIMultiDict

from gateway.body import Body
from gateway.call import Answer, Caller, Head
from gateway.catalogue import Route, Terms
from gateway.limits.allowance import Allowance
from gateway.limits.grant import Grant
from gateway.problem import CONTENT_TYPE, Refused
from gateway.request import Request
from gateway.websocket import Tunnel

GONE = 499
"""Status of a call whose client went away first."""


@dataclass(slots=True)
class Passing:
    """A call that was let through.

    Attributes:
        id: No other call of any gateway has it.
        head: Of the request.
        body: Of the request.
        route: What it matched.
        caller: Who calls.
        terms: The plan it counts under.
        at_ns: Unix nanoseconds when it was let through.
        began: Seconds on the clock when it came.
        query: As the upstream gets it, raw.
        upgrades: Whether it asks for a WebSocket.
        amounts: By meter, beside ``requests``.
        fields: That go with the answer, whatever it is.
        upstream: Seconds that were spent waiting for upstreams.
        served: Name of the upstream that gave it.
        sent: Bytes of the answer's body that were handed on.
        trace: The ``traceparent`` that it went on with.
        place: What it takes a place of, of those that calls may have at once; None is none.
        flaws: What of the answer is counted as wrong: see `gateway.metrics.Metrics.flaw`.
        tunnel: What it became, when it stopped being HTTP.
    """

    id: str
    head: Head
    body: Body
    route: Route
    caller: Caller
    terms: Terms[Allowance]
    at_ns: int
    began: float
    query: str
    upgrades: bool = False
    amounts: dict[str, int] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    upstream: float = 0.0
    served: str = ""
    sent: int = 0
    trace: str = ""
    place: tuple[str, str] | None = None
    flaws: tuple[str, ...] = ()
    tunnel: Tunnel | None = None

    @property
    def received(self) -> int:
        """Bytes that the client sent: of the body, and what went through a tunnel."""
        return self.body.size + (0 if self.tunnel is None else self.tunnel.received)

    async def whole(self) -> bytes:
        """Return the whole body of the request.

        Raises:
            Refused: 408, it did not come in the route's time; 413, it is too large.
        """
        try:
            async with asyncio.timeout(self.route.timeout):
                return await self.body.whole()
        except TimeoutError:
            detail = f"The body did not come within {self.route.timeout:g} s."
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, detail) from None


@dataclass(slots=True)
class Trail:
    """What became of one request, as far as it came.

    Attributes:
        request: As it was read.
        began: Seconds on the clock when it came.
        head: Once its target and host could be read.
        route: Once it matched one.
        caller: Once it was known.
        grant: Once its limits let it through.
        call: Once it was recorded as let through.
        refused: Why the gateway itself answered.
        overhead: Seconds that the gateway itself took before the answer began.
    """

    request: Request
    began: float
    head: Head | None = None
    route: Route | None = None
    caller: Caller | None = None
    grant: Grant | None = None
    call: Passing | None = None
    refused: Refused | None = None
    overhead: float = 0.0


def refusal(refused: Refused) -> Answer:
    """Return the HTTP answer to a refused request."""
    headers = CIMultiDict({"Content-Type": CONTENT_TYPE, "Server": "wherry"})
    headers.update(refused.headers)
    return Answer(refused.status.value, headers, refused.body())


def missing_method(method: str, allowed: tuple[str, ...]) -> Refused:
    """Return the refusal of a method that a path does not take."""
    detail = f"This path does not take {method}."
    return Refused(HTTPStatus.METHOD_NOT_ALLOWED, detail, headers={"Allow": ", ".join(allowed)})
