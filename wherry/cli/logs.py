"""How log records look on a terminal: the event, then what it is about."""

import logging
import sys

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Line(logging.Formatter):
    """One line a record: level, event, and the record's extra values as ``name=value``."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without a stack."""
        extra = {name: value for name, value in vars(record).items() if name not in _KNOWN}
        words = [super().formatMessage(record), *(f"{n}={v}" for n, v in sorted(extra.items()))]
        return " ".join(words)


def start(*, verbose: bool) -> None:
    """Log to standard error: warnings, and with ``verbose`` each change of state."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line())
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
