"""What the gateway counts of itself, as Prometheus reads it.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

MAX_SERIES = 5000
"""Most combinations of product, operation and status; more are counted together as ``other``."""

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25)

_OTHER = ("other", "other")


@dataclass(slots=True)
class Histogram:
    """How often values lay below each of its bounds.

    Attributes:
        bounds: Ascending.
        counts: Between two bounds; the last is for all over the highest.
        sum: Of all values.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Count ``value``."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self, name: str) -> Iterable[str]:
        """Yield the samples."""
        total = 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            total += count
            yield f'{name}_bucket{{le="{bound:g}"}} {total}'
        total += self.counts[-1]
        yield f'{name}_bucket{{le="+Inf"}} {total}'
        yield f"{name}_sum {self.sum:.6f}"
        yield f"{name}_count {total}"


class Metrics:
    """Counts calls; a new product or operation is a new series, up to `MAX_SERIES`."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str, int], int] = {}
        self._refusals: dict[int, int] = {}
        self._flaws: dict[tuple[str, str], int] = {}
        self._seconds, self._overhead = Histogram(SECONDS), Histogram(OVERHEAD)
        self._gauges: dict[str, tuple[str, Callable[[], float]]] = {}

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show what ``read`` returns, under ``name`` with the explanation ``text``."""
        self._gauges[name] = (text, read)

    def count(
        self, product: str, operation: str, status: int, seconds: float, overhead: float
    ) -> None:
        """Count a call that was let through.

        Args:
            product: What was called.
            operation: Which of it.
            status: Of the answer.
            seconds: From its head to the end of the answer.
            overhead: Of which the gateway itself took, before the answer began.
        """
        key = (product, operation, status // 100)
        if key not in self._calls and len(self._calls) >= MAX_SERIES:
            key = (*_OTHER, status // 100)
        self._calls[key] = self._calls.get(key, 0) + 1
        self._seconds.add(seconds)
        self._overhead.add(overhead)

    def refuse(self, status: int) -> None:
        """Count a request that the gateway answered itself with ``status``."""
        self._refusals[status] = self._refusals.get(status, 0) + 1

    def flaw(self, product: str, what: str) -> None:
        """Count what was wrong with an upstream's answer.

        Args:
            product: What was called.
            what: ``document``: the answer does not keep to the product's document; ``amount``: it
                says of a meter what is no amount, which is not billed.
        """
        key = (product, what)
        if key not in self._flaws and len(self._flaws) >= MAX_SERIES:
            key = ("other", what)
        self._flaws[key] = self._flaws.get(key, 0) + 1

    def render(self) -> str:
        """Return everything in the text format."""
        return "\n".join([*self._lines(), ""])

    async def told(self) -> str:
        """As `render`, for those who may have to wait."""
        return self.render()

    def _lines(self) -> Iterable[str]:
        yield "# HELP wherry_gateway_calls_total Calls that were let through."
        yield "# TYPE wherry_gateway_calls_total counter"
        for (product, operation, status), count in sorted(self._calls.items()):
            labels = _labels({"product": product, "operation": operation, "status": f"{status}xx"})
            yield f"wherry_gateway_calls_total{labels} {count}"
        yield "# HELP wherry_gateway_refusals_total Requests that the gateway refused."
        yield "# TYPE wherry_gateway_refusals_total counter"
        for code, count in sorted(self._refusals.items()):
            yield f'wherry_gateway_refusals_total{{status="{code}"}} {count}'
        yield "# HELP wherry_gateway_flaws_total What was wrong with answers of upstreams."
        yield "# TYPE wherry_gateway_flaws_total counter"
        for (product, what), count in sorted(self._flaws.items()):
            labels = _labels({"product": product, "flaw": what})
            yield f"wherry_gateway_flaws_total{labels} {count}"
        yield "# HELP wherry_gateway_call_seconds Time from a call's head to the end of its answer."
        yield "# TYPE wherry_gateway_call_seconds histogram"
        yield from self._seconds.lines("wherry_gateway_call_seconds")
        yield "# HELP wherry_gateway_overhead_seconds Time that the gateway itself took of it."
        yield "# TYPE wherry_gateway_overhead_seconds histogram"
        yield from self._overhead.lines("wherry_gateway_overhead_seconds")
        for name, (text, read) in sorted(self._gauges.items()):
            yield f"# HELP wherry_gateway_{name} {text}"
            yield f"# TYPE wherry_gateway_{name} gauge"
            yield f"wherry_gateway_{name} {read():.15g}"


def _labels(values: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
