"""Money, shares, meters, dates and time zones as users write them."""

import re
from datetime import date
from decimal import Decimal
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, StringConstraints, WithJsonSchema

from wherry.model.currency import EXPONENT

_DECIMAL = re.compile(r"(0|[1-9][0-9]{0,14})(\.[0-9]{1,12})?", re.ASCII)

Meter = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""What is counted: ``requests``, or a meter that a product defines."""


def _money(text: str) -> str:
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"amount {text[:40]!r}: expected a decimal in quotes, like '0.0025'")
    return text


Money = Annotated[
    str,
    AfterValidator(_money),
    WithJsonSchema({"type": "string", "pattern": f"^{_DECIMAL.pattern}$", "examples": ["0.0025"]}),
]
"""An exact amount of the plan's currency, at least 0: a decimal in quotes."""


def _percent(text: str) -> str:
    if not _DECIMAL.fullmatch(text) or Decimal(text) > 100:  # noqa: PLR2004
        raise ValueError(f"percent {text[:40]!r}: expected a decimal of 0 to 100 in quotes")
    return text


Percent = Annotated[
    str,
    AfterValidator(_percent),
    WithJsonSchema({"type": "string", "pattern": f"^{_DECIMAL.pattern}$", "examples": ["12.5"]}),
]
"""An exact share of a hundred: a decimal in quotes."""


def _currency(text: str) -> str:
    if text not in EXPONENT:
        raise ValueError(f"currency {text[:40]!r}: expected an ISO 4217 code, like 'EUR'")
    return text


Currency = Annotated[
    str,
    AfterValidator(_currency),
    WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$", "examples": ["EUR"]}),
]
"""An ISO 4217 code."""


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def _date(text: str) -> str:
    wrong = f"date {text[:40]!r}: expected one like '2026-11-30'"
    if not _DAY.fullmatch(text):  # other forms of ISO 8601 do not sort as text
        raise ValueError(wrong)
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError(wrong) from None
    return text


Date = Annotated[
    str,
    AfterValidator(_date),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-11-30"]}),
]
"""A calendar day, ``YYYY-MM-DD``."""


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"time zone {text[:40]!r}: expected a name of the tz database, like 'Europe/Berlin'"
        ) from None
    return text


Zone = Annotated[str, StringConstraints(max_length=64), AfterValidator(_zone)]
"""A time zone by its name in the tz database."""
