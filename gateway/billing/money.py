"""Money as whole numbers of a currency's smallest unit, so that sums are exact.

Prices are fractions of any length; they become money once for each line of an invoice, half a
unit going away from zero, as a person with a pocket calculator expects.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from wherry.errors import WherryError
from wherry.model.currency import EXPONENT

_AMOUNT = re.compile(r"(-?)(0|[1-9][0-9]{0,14})(?:\.([0-9]{1,12}))?", re.ASCII)


class BadAmount(WherryError):
    """A text is no amount of its currency."""

    def __init__(self, text: str, currency: str) -> None:
        super().__init__(
            f"amount {text[:40]!r}: expected a decimal with at most {EXPONENT[currency]} places, "
            f"as {currency} has"
        )
        self.text, self.currency = text, currency


class UnknownCurrency(WherryError):
    """No currency has that code."""

    def __init__(self, code: str) -> None:
        super().__init__(f"currency {code[:40]!r}: expected an ISO 4217 code, like 'EUR'")
        self.code = code


def whole(number: Fraction) -> int:
    """Return ``number`` rounded to a whole one, halves away from zero."""
    up = (2 * abs(number.numerator) + number.denominator) // (2 * number.denominator)
    return up if number >= 0 else -up


def rounded(amount: Fraction, currency: str) -> int:
    """Return ``amount`` in smallest units of ``currency``, halves away from zero."""
    return whole(amount * 10 ** EXPONENT[currency])


def parts(amount: Fraction, cuts: Sequence[Fraction], currency: str) -> list[int]:
    """Return ``amount`` in pieces between neighbouring ``cuts`` (0 to 1), in smallest units.

    Each cut is rounded, not each piece: neighbouring pieces add up to what they are together.
    """
    at = [rounded(amount * cut, currency) for cut in cuts]
    return [end - begin for begin, end in pairwise(at)]


def spelled(minor: int, currency: str) -> str:
    """Return ``minor`` smallest units as a decimal: ``-12.30``."""
    places = EXPONENT[currency]
    digits = str(abs(minor)).rjust(places + 1, "0")
    text = digits if not places else f"{digits[:-places]}.{digits[-places:]}"
    return f"-{text}" if minor < 0 else text


def minor(text: str, currency: str) -> int:
    """Return the decimal ``text`` in smallest units.

    Raises:
        BadAmount: It is no decimal, or has more places than the currency.
        UnknownCurrency: There is no such currency.
    """
    if currency not in EXPONENT:
        raise UnknownCurrency(currency)
    form = _AMOUNT.fullmatch(text)
    if form is None or len((form[3] or "").rstrip("0")) > EXPONENT[currency]:
        raise BadAmount(text, currency)
    return rounded(Fraction(text), currency)
