"""Many uses as one event of the Store's log.

A body is one line of JSON and, behind it, compressed JSON. The line holds a group for each
minute, consumer, app, product, plan and operation with what its uses add up to; the rest holds
the uses themselves, group by group. Rollups read the line only.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.usage import SERVER_ERROR, Usage
from wherry.errors import WherryError
from wherry.store import MAX_BODY

MINUTE_NS = 60_000_000_000
"""Nanoseconds of the shortest rollup."""

MOST_USES = 500
"""Most uses in one batch of the gateway's own."""

_MOST_UNPACKED = 64 << 20
_CLIENT_ERROR = 400
_MEMBERS = 7

_json = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=dict).encode


class BadBatch(WherryError):
    """An event of the log is no batch of uses."""

    def __init__(self, found: str) -> None:
        super().__init__(f"usage batch: {found}, expected what the recorder writes")


class Key(NamedTuple):
    """What a sum is of.

    Attributes:
        operation: Empty when the product's route names none.
        meter: What was counted.
    """

    consumer: str
    app: str
    product: str
    plan: str
    operation: str
    meter: str


class Sum(NamedTuple):
    """What uses of one meter add up to.

    Attributes:
        amount: Of the meter, all of it.
        billed_amount: The part of it that counts on the invoice.
        calls: How many uses.
        errors: How many of them ended with a status of 400 or more.
    """

    amount: int = 0
    billed_amount: int = 0
    calls: int = 0
    errors: int = 0

    def plus(self, other: "Sum") -> "Sum":
        """Return both together."""
        return Sum(
            self.amount + other.amount,
            self.billed_amount + other.billed_amount,
            self.calls + other.calls,
            self.errors + other.errors,
        )


class Counted(NamedTuple):
    """The sums of one minute in one batch.

    Attributes:
        minute: Minutes since the epoch.
    """

    minute: int
    sums: Mapping[Key, Sum]


def encoded(uses: Sequence[Usage]) -> list[bytes]:
    """Return ``uses`` as bodies of at most `MAX_BODY` bytes, as few as that takes.

    A single use that is over it loses its labels, which bill nothing.
    """
    body = _encode(uses)
    if len(body) <= MAX_BODY:
        return [body]
    if len(uses) == 1:
        return [_encode([uses[0]._replace(labels={})])]
    half = len(uses) // 2
    return encoded(uses[:half]) + encoded(uses[half:])


def counted(body: bytes) -> list[Counted]:
    """Return what a batch adds up to.

    Raises:
        BadBatch: It is none.
    """
    return [
        Counted(
            group[0],
            {Key._make((*group[1:6], meter)): Sum(*values) for meter, values in group[6].items()},
        )
        for group in _groups(body.partition(b"\n")[0])
    ]


def uses(body: bytes) -> Iterator[Usage]:
    """Yield the uses of a batch, group by group.

    Raises:
        BadBatch: It is none.
    """
    line, _, rest = body.partition(b"\n")
    try:
        unpacker = zlib.decompressobj()
        members = json.loads(unpacker.decompress(rest, _MOST_UNPACKED))
        for group, each in zip(_groups(line), members, strict=True):
            _, consumer, app, product, plan, operation, _ = group
            for name, at_ns, credential, status, amounts, labels, refused in each:
                yield Usage(
                    name,
                    at_ns,
                    consumer,
                    app,
                    product,
                    operation,
                    plan,
                    credential,
                    status,
                    amounts,
                    labels,
                    bool(refused),
                )
    except (zlib.error, TypeError, ValueError) as error:
        raise BadBatch(str(error)) from None


def _groups(line: bytes) -> list[Any]:
    try:
        groups = json.loads(line)
        wrong = not isinstance(groups, list) or not all(
            len(group) == _MEMBERS and type(group[0]) is int for group in groups
        )
    except (ValueError, TypeError) as error:
        raise BadBatch(str(error)) from None
    if wrong:
        raise BadBatch("a group with other members")
    return list(groups)


def _encode(events: Sequence[Usage]) -> bytes:
    groups: dict[tuple[object, ...], tuple[dict[str, list[int]], list[object]]] = {}
    for use in events:
        name, at_ns, consumer, app, product, operation, plan, credential, status = use[:9]
        amounts, labels, refused = use[9:]
        key = (at_ns // MINUTE_NS, consumer, app, product, plan, operation)
        group = groups.get(key)
        if group is None:
            group = groups[key] = {}, []
        sums, members = group
        members.append((name, at_ns, credential, status, amounts, labels, int(refused)))
        billed = not refused and status < SERVER_ERROR
        for meter, amount in amounts.items():
            added = sums.get(meter)
            if added is None:
                added = sums[meter] = [0, 0, 0, 0]
            added[0] += amount
            if billed:
                added[1] += amount
            added[2] += 1
            if status >= _CLIENT_ERROR:
                added[3] += 1
    line = _json([(*key, sums) for key, (sums, _) in groups.items()])
    rest = _json([members for _, members in groups.values()])
    return line.encode() + b"\n" + zlib.compress(rest.encode(), 1)
