"""What happens to the requests of a route on their way, ready to be applied."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from gateway.traffic.addresses import Guard
from gateway.traffic.cache.caching import Caching
from gateway.traffic.cors import Sharing
from gateway.traffic.meters import Meters
from gateway.traffic.retries import Repeating
from gateway.traffic.transform import Transformer
from gateway.traffic.wrong import WrongPolicy
from wherry.model import traffic as model
from wherry.model.resource import seconds


@dataclass(frozen=True, slots=True)
class Closed:
    """A product that is down for maintenance.

    Attributes:
        message: Said to callers.
        retry_after: Seconds told to them.
    """

    message: str
    retry_after: int


@dataclass(frozen=True, slots=True)
class Policies:
    """The traffic policies of a route; None is none of its kind.

    Attributes:
        sharing: With pages of other origins.
        guard: Who may call by their address.
        closed: Everything is answered with 503.
        repeating: Which requests are sent once more.
        breaker: When an upstream is left alone.
        max_calls: Most calls under way at once.
        caching: Which answers are kept.
        transformer: Changes to requests and answers.
        meters: What answers say that a call comes to.
        totals: What is counted of a call once it is over.
        validates: Whether calls are held against the product's document.
        requests: Whether requests are.
        answers: What is done about answers that do not keep to it.
        plain: Whether calls go straight to their upstream.
    """

    sharing: Sharing | None = None
    guard: Guard | None = None
    closed: Closed | None = None
    repeating: Repeating | None = None
    breaker: model.Breaker | None = None
    max_calls: int | None = None
    caching: Caching | None = None
    transformer: Transformer | None = None
    meters: Meters | None = None
    totals: Meters | None = None
    validates: bool = False
    requests: bool = False
    answers: Literal["off", "report", "refuse"] = "off"
    plain: bool = True

    @classmethod
    def of(cls, traffic: model.Traffic, variables: Collection[str]) -> "Policies":
        """Prepare ``traffic`` for a route whose path has ``variables``.

        Raises:
            WrongPolicy: A part of it cannot be used.
        """
        validate = traffic.validate_
        caching = None if traffic.cache is None else Caching.of(traffic.cache)
        transformer = None
        if traffic.transform is not None:
            transformer = Transformer.of(traffic.transform, variables)
        if caching is not None and transformer is not None and transformer.personal:
            _own_answers(caching)
        meters = Meters.of(traffic.meters)
        closed = None
        if traffic.maintenance is not None:
            wait = max(1, round(seconds(traffic.maintenance.retry_after)))
            closed = Closed(traffic.maintenance.message, wait)
        return cls(
            sharing=None if traffic.cors is None else Sharing.of(traffic.cors),
            guard=None if traffic.addresses is None else Guard.of(traffic.addresses),
            closed=closed,
            repeating=None if traffic.retries is None else Repeating.of(traffic.retries),
            breaker=traffic.breaker,
            max_calls=traffic.max_calls,
            caching=caching,
            transformer=transformer,
            meters=replace(meters, values=()) if meters.headers or meters.places else None,
            totals=replace(meters, headers=(), places=()) if meters.values else None,
            validates=validate is not None,
            requests=validate is not None and validate.requests,
            answers="off" if validate is None else validate.responses,
            plain=(validate is None or validate.responses == "off")
            and caching is None
            and transformer is None
            and not (meters.headers or meters.places),
        )


def _own_answers(caching: Caching) -> None:
    """See that answers that are changed for one consumer are kept for that one only.

    Raises:
        WrongPolicy: Others would get them, too.
    """
    if not caching.by_consumer:
        raise WrongPolicy(
            "cache.byConsumer false beside a transform that says who calls",
            "byConsumer true, or no variable of consumer, app, plan or header in transform",
        )
