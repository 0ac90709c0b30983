"""Many uses as one event of the Store's log.

A body is one line of JSON and, behind it, compressed JSON. The line holds a group for each
minute, consumer, app, product, plan and operation with what its uses add up to; the rest holds
the uses themselves: for each group its kinds of use, and for each kind what its uses share and
the name and the nanosecond of the minute of each. Rollups read the line only.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
_SAME = _MEMBERS - 1

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
        for group, kinds in zip(_groups(line), members, strict=True):
            minute, consumer, app, product, plan, operation, _ = group
            for credential, status, amounts, labels, refused, each in kinds:
                for name, within in zip(each[::2], each[1::2], strict=True):
                    yield Usage(
                        name,
                        minute * MINUTE_NS + within,
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


@dataclass(slots=True)
class _Kind:
    """Uses of one group that are alike but for their names and times."""

    credential: str
    status: int
    amounts: Mapping[str, int]
    labels: Mapping[str, str]
    refused: bool
    uses: list[str | int] = field(default_factory=list)

    def add_to(self, sums: dict[str, list[int]]) -> None:
        """Add up what they came to, by meter."""
        calls = len(self.uses) // 2
        billed = not self.refused and self.status < SERVER_ERROR
        for meter, amount in self.amounts.items():
            added = sums.setdefault(meter, [0, 0, 0, 0])
            added[0] += amount * calls
            added[1] += amount * calls if billed else 0
            added[2] += calls
            added[3] += calls if self.status >= _CLIENT_ERROR else 0

    def members(self) -> tuple[object, ...]:
        """Return it for JSON."""
        common = self.credential, self.status, self.amounts, self.labels, int(self.refused)
        return *common, self.uses


def _encode(events: Sequence[Usage]) -> bytes:
    groups: dict[tuple[object, ...], list[_Kind]] = {}
    kinds: dict[tuple[object, ...], _Kind] = {}
    for use in events:
        name, at_ns, consumer, app, product, operation, plan, credential, status = use[:9]
        amounts, labels, refused = use[9:]
        minute, within = divmod(at_ns, MINUTE_NS)
        # The recorder's uses share what they have in common, so that it need not be compared.
        like = (
            *(minute, consumer, app, product, plan, operation),
            *(credential, status, id(amounts), id(labels), refused),
        )
        kind = kinds.get(like)
        if kind is None:
            kind = kinds[like] = _Kind(credential, status, amounts, labels, refused)
            groups.setdefault(like[:_SAME], []).append(kind)
        kind.uses.append(name)
        kind.uses.append(within)
    said = []
    for key, group in groups.items():
        sums: dict[str, list[int]] = {}
        for kind in group:
            kind.add_to(sums)
        said.append((*key, sums))
    rest = _json([[kind.members() for kind in group] for group in groups.values()])
    return _json(said).encode() + b"\n" + zlib.compress(rest.encode(), 1)
