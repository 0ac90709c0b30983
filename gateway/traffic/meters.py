"""Amounts that answers say: tokens, bytes, seconds.

What is no whole number of at least 0 is never billed: it is told apart, so that it can be
counted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from multidict import CIMultiDict

from gateway.call import Fields
from gateway.traffic import json
from wherry.model.traffic import Metered

MOST = 10**15
"""Largest amount of one call."""

MOST_BODY = 1 << 20
"""Most bytes of an answer in which amounts are looked for."""

_WHOLE = re.compile(r"[ \t]*([0-9]{1,16})[ \t]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one call comes to.

    Attributes:
        amounts: By meter; one that the answer says nothing about is not there.
        refused: Meters whose amount was none.
    """

    amounts: dict[str, int]
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Meters:
    """Meters of a route, ready to be read.

    Attributes:
        headers: Meter and field.
        places: Meter and place in the JSON body.
        values: Meter and what of the call counts.
    """

    headers: tuple[tuple[str, str], ...]
    places: tuple[tuple[str, tuple[str, ...]], ...]
    values: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, meters: Sequence[Metered]) -> "Meters":
        """Prepare ``meters``.

        Raises:
            WrongPolicy: A place cannot be read.
        """
        return cls(
            tuple((each.meter, each.header) for each in meters if each.header is not None),
            tuple((each.meter, json.tokens(each.body)) for each in meters if each.body is not None),
            tuple((each.meter, each.value) for each in meters if each.value is not None),
        )

    def wants(self, headers: Fields) -> bool:
        """Return whether the body of an answer with these fields, up to `MOST_BODY`, is needed."""
        return bool(self.places) and json.is_json(headers)

    def read(
        self,
        headers: CIMultiDict[str],
        body: bytes | None,
        *,
        bytes_in: int,
        bytes_out: int,
        milliseconds: int,
    ) -> Measured:
        """Return what a call comes to; several sources of one meter add up.

        Args:
            headers: Of the answer; fields that hold amounts are taken out.
            body: Of the answer if `wants`, else None.
            bytes_in: Of the request's body.
            bytes_out: Of the answer's body.
            milliseconds: That the call took.
        """
        if not (self.headers or self.places or self.values):
            return Measured({})
        of_call = {"bytesIn": bytes_in, "bytesOut": bytes_out, "milliseconds": milliseconds}
        found: list[tuple[str, int | None]] = [
            (meter, of_call[value]) for meter, value in self.values
        ]
        for meter, name in self.headers:
            if given := headers.getall(name, None):
                found.append((meter, _text(given[0]) if len(given) == 1 else None))
        for _, name in self.headers:
            headers.popall(name, None)
        if self.places and body is not None:
            found += self._in_body(body)
        amounts: dict[str, int] = {}
        for meter, amount in found:
            if amount is not None:
                amounts[meter] = amounts.get(meter, 0) + amount
        refused = tuple(dict.fromkeys(meter for meter, amount in found if amount is None))
        return Measured(amounts, refused)

    def _in_body(self, body: bytes) -> list[tuple[str, int | None]]:
        try:
            value = json.loads(body)
        except json.BadJson:
            return [(meter, None) for meter, _ in self.places]
        found: list[tuple[str, int | None]] = []
        for meter, steps in self.places:
            there, amount = json.find(value, steps)
            if there:
                found.append((meter, _number(amount)))
        return found


def _text(text: str) -> int | None:
    form = _WHOLE.fullmatch(text)
    return _number(int(form[1])) if form else None


def _number(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 12.0 is what some writers of JSON make of 12
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
        return None
    return value
