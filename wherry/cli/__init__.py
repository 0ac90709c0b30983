"""The ``wherry`` command; the only room that knows every service."""

import sys
from collections.abc import Iterator

_INTERRUPTED = 130


def main(*before: str) -> None:
    """Run the command line; errors of ours are one line each and status 1.

    Args:
        before: Arguments that stand before those that were given.
    """
    try:
        from wherry.cli.commands import app  # noqa: PLC0415
        from wherry.errors import WherryError  # noqa: PLC0415
    except KeyboardInterrupt:  # loading takes a second, and Ctrl-C needs no traceback
        sys.exit(_INTERRUPTED)
    status = 0
    try:
        app([*before, *sys.argv[1:]])
    except* WherryError as group:
        for error in dict.fromkeys(map(str, _leaves(group))):
            sys.stderr.write(f"wherry: {error}\n")
        status = 1
    sys.exit(status)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
