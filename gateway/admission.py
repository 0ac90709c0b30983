"""Who may call what, and how much: everything that is asked before a call counts."""

from hashlib import sha256
from hmac import compare_digest
from http import HTTPStatus

from multidict import CIMultiDict

from gateway import host, path
from gateway.body import Body
from gateway.call import Answer, Caller, Head
from gateway.catalogue import Catalogue, Route, Terms, WrongMethod
from gateway.limits.allowance import Allowance
from gateway.parts import Parts
from gateway.passing import Passing, Trail, missing_method
from gateway.problem import Refused, out_of_capacity
from gateway.request import Request
from gateway.traffic.addresses import Networks, client
from gateway.websocket import asked
from wherry.clock import Clock


class Admission:
    """Lets calls through, or says why not.

    Args:
        catalogue: See `catalogue`.
        parts: Who is asked.
        clock: Where the time is read.
    """

    def __init__(self, catalogue: Catalogue, parts: Parts, clock: Clock) -> None:
        self._parts, self._clock = parts, clock
        self.catalogue = catalogue

    @property
    def catalogue(self) -> Catalogue:
        """The routing table in use; replaced whole."""
        return self._catalogue

    @catalogue.setter
    def catalogue(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._trusted = Networks.of(catalogue.settings.trusted_proxies)

    def head(self, request: Request, where: path.Path, query: str) -> Head:
        """Return the head of ``request``, with the client's address and the host it called.

        Raises:
            Refused: 400, it names no host, or more than one.
        """
        headers = request.headers
        called = host.called(request.target, headers, request.protocol)
        return Head(
            request.method,
            where,
            query,
            called.name,
            headers,
            self.peer(request),
            request.scheme,
            request.protocol,
            request.certificate,
            called.authority,
        )

    def peer(self, request: Request) -> str:
        """Return the client's address: the connection's, or what a trusted proxy says."""
        if not self._trusted.prefixes:
            return request.peer
        return client(request.peer, request.headers.getall("x-forwarded-for", ()), self._trusted)

    def found(self, head: Head) -> Route | WrongMethod:
        """Return the route of a request.

        Raises:
            Refused: 421, the gateway has not the host; 404, no product has the path.
        """
        catalogue = self._catalogue
        if not catalogue.answers_for(head.host):
            detail = "This gateway does not answer for this host."
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST, detail)
        found = catalogue.match(head.method, head.path, head.host, head.headers)
        if found is None:
            raise Refused(HTTPStatus.NOT_FOUND, "No product has this path.")
        return found

    def preflight(self, head: Head) -> Answer | None:
        """Return the answer to a page that asks first, or None: it does not, or nobody minds.

        Raises:
            Refused: 403, the page may not send what it asks for.
        """
        origin = head.headers.get("Origin")
        method = head.headers.get("Access-Control-Request-Method")
        if origin is None or method is None:
            return None
        found = self._catalogue.match(method, head.path, head.host, head.headers)
        if not isinstance(found, Route) or found.policies.sharing is None:
            return None
        wanted = head.headers.get("Access-Control-Request-Headers", "")
        agreed = found.policies.sharing.preflight(origin, method, wanted)
        if agreed is None:
            raise Refused(HTTPStatus.FORBIDDEN, "Pages of this origin may not send this request.")
        return Answer(HTTPStatus.NO_CONTENT, CIMultiDict({**agreed, "Server": "wherry"}))

    async def admitted(self, trail: Trail, head: Head, found: Route | WrongMethod) -> Passing:
        """Return the call that a request is, once nobody refuses it.

        ``trail`` holds what was found out, whatever happens.

        Raises:
            Refused: Somebody does.
        """
        route = trail.route = found.route if isinstance(found, WrongMethod) else found
        policies, parts = route.policies, self._parts
        if policies.guard is not None and not policies.guard.admits(head.peer):
            raise Refused(HTTPStatus.FORBIDDEN, "Calls from this address are not allowed.")
        if policies.closed is not None:
            raise out_of_capacity(policies.closed.message, retry_after=policies.closed.retry_after)
        caller = parts.authenticator.quick(route.authentication, head, route.product)
        if caller is None:
            caller = await parts.authenticator.identify(route.authentication, head, route.product)
        trail.caller = caller
        at_ns = self._clock.unix_ns()
        terms = self._terms(caller, route, at_ns)
        if isinstance(found, WrongMethod):
            raise missing_method(head.method, found.allowed)
        if parts.stopped(caller.consumer, route.product):
            detail = f"There is no credit left for product {route.product!r}."
            raise Refused(HTTPStatus.PAYMENT_REQUIRED, detail)
        limits, bounds = parts.limits, terms.allowance
        grant = limits.take(bounds, caller, head, route.product, route.operation, route.cost)
        if grant is None:
            grant = await limits.take_shared(
                bounds, caller, head, route.product, route.operation, route.cost
            )
        trail.grant = grant
        call = Passing(
            parts.recorder.next_id(),
            head,
            Body(trail.request.body, route.max_body_bytes),
            route,
            caller,
            terms,
            at_ns,
            trail.began,
            head.query,
            asked(head),
            fields=dict(grant.fields),
        )
        if caller.body_digest is not None:
            await _same(call, caller.body_digest)
        if route.contract is not None and policies.requests:
            await _kept_to(call)
        return call

    def _terms(self, caller: Caller, route: Route, now_ns: int) -> Terms[Allowance]:
        """Return the terms that the caller uses the route under.

        Raises:
            Refused: 403, there are none, or they do not cover it.
        """
        catalogue, product = self._catalogue, route.product
        terms = catalogue.terms(caller.consumer, caller.app, product, now_ns)
        if terms is None or catalogue.blocked(caller.consumer):
            detail = f"The caller has no subscription to product {product!r}."
            raise Refused(HTTPStatus.FORBIDDEN, detail)
        if caller.environment is not None and caller.environment != route.environment:
            detail = f"The credential does not count in environment {route.environment!r}."
            raise Refused(HTTPStatus.FORBIDDEN, detail)
        if route.scopes and caller.scopes is not None and not route.scopes <= caller.scopes:
            missing = ", ".join(sorted(route.scopes - caller.scopes))
            raise Refused(HTTPStatus.FORBIDDEN, f"The credential was not granted: {missing}.")
        return terms


async def _same(call: Passing, digest: bytes) -> None:
    """See that the body is the one that was signed.

    Raises:
        Refused: 400, it is another one.
    """
    if not compare_digest(sha256(await call.whole()).digest(), digest):
        raise Refused(HTTPStatus.BAD_REQUEST, "The body is not the one that was signed.")


async def _kept_to(call: Passing) -> None:
    """Hold a request against the product's document.

    Raises:
        Refused: 400, with every place that does not keep to it.
    """
    head, contract = call.head, call.route.contract
    if contract is None:
        return
    body = await call.whole()
    if found := contract.request(head.method, head.path, head.query, head.headers, body):
        raise Refused(
            HTTPStatus.BAD_REQUEST,
            "The request does not keep to the API's document.",
            members={"violations": [each.member() for each in found]},
        )
