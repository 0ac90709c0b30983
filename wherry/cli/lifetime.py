"""Lifetimes as options of commands: ``90d``, ``12h`` or ``30m``."""

import re

FORM = "expected a form like 90d, 12h or 30m"
"""For errors."""

_FORM = re.compile(r"([1-9][0-9]{0,4})([dhm])", re.ASCII)
_UNIT_SECONDS = {"d": 86_400, "h": 3600, "m": 60}


def lifetime_ns(text: str) -> int | None:
    """Return nanoseconds, or None when ``text`` is no lifetime."""
    form = _FORM.fullmatch(text)
    return None if form is None else int(form[1]) * _UNIT_SECONDS[form[2]] * 10**9
