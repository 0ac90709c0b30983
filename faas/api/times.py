"""Timestamps in the three forms of AWS's protocols. Pure."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

ISO8601 = "iso8601"
RFC822 = "rfc822"
UNIX = "unixTimestamp"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(value: str | float, form: str) -> datetime:
    """Return the time that ``value`` names, with its zone; seconds are taken in any form.

    Raises:
        ValueError: It names none.
    """
    if not isinstance(value, str) or form == UNIX:
        try:
            return _EPOCH + timedelta(seconds=float(value))
        except OverflowError:
            raise ValueError(f"timestamp {value}: expected a year of 1 to 9999") from None
    found = parsedate_to_datetime(value) if form == RFC822 else datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def written(value: datetime | float, form: str) -> str | float:
    """Return a time in one of the forms; seconds are since the epoch.

    Whole seconds are written without a fraction, others to the millisecond.
    """
    at = value if isinstance(value, datetime) else _EPOCH + timedelta(seconds=value)
    at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    if form == RFC822:
        return format_datetime(at, usegmt=True)
    if form == ISO8601:
        unit = "milliseconds" if at.microsecond else "seconds"
        return at.isoformat(timespec=unit).replace("+00:00", "Z")
    milliseconds = (at - _EPOCH) // timedelta(milliseconds=1)
    return milliseconds // 1000 if milliseconds % 1000 == 0 else milliseconds / 1000
