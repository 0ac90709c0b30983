"""HTTP dates.

Source: RFC 9110 section 5.6.7
"""

import re
from calendar import timegm
from email.utils import formatdate

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_TIME = r"(?P<hour>[0-2][0-9]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_FORMS = (
    re.compile(
        rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>[0-3][0-9]) {_MONTH} (?P<year>[0-9]{{4}})"
        rf" {_TIME} GMT",
        re.ASCII,
    ),
    re.compile(
        rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>[0-3][0-9])-{_MONTH}-"
        rf"(?P<year>[0-9]{{2}}) {_TIME} GMT",
        re.ASCII,
    ),
    re.compile(
        rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {_MONTH} (?P<day>[ 0-3][0-9]) {_TIME}"
        r" (?P<year>[0-9]{4})",
        re.ASCII,
    ),
)
_CENTURY, _HALF_CENTURY = 100, 50
_SECONDS_OF_YEAR = 31_556_952


def parsed(text: str | None, now: float) -> int | None:
    """Return the Unix seconds of a date in any of the three forms, or None: it is none.

    Args:
        text: The field's value, if there is one.
        now: Unix seconds; a year of two digits is at most 50 years after it.
    """
    if text is None:
        return None
    for form in _FORMS:
        if found := form.fullmatch(text.strip()):
            year = int(found["year"])
            if year < _CENTURY:
                today = 1970 + int(now) // _SECONDS_OF_YEAR
                year += today - today % _CENTURY
                year -= _CENTURY if year > today + _HALF_CENTURY else 0
            day = year, _MONTHS[found["month"]], int(found["day"])
            time = int(found["hour"]), int(found["minute"]), int(found["second"])
            try:
                return timegm((*day, *time))
            except ValueError:
                return None
    return None


def shown(now: float) -> str:
    """Return the date of ``now``, Unix seconds."""
    return formatdate(int(now), usegmt=True)
