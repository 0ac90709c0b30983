"""Which runtimes functions may ask for, and which they get. Pure but for the list of Nodes."""

import re

from faas.code.build import PYTHON
from faas.image.runtimes import RUNTIMES as NODES

_PYTHON = re.compile(r"python3\.(?:[6-9]|\d\d)")
_NODE = re.compile(r"nodejs(?P<major>\d\d)\.x")
_OWN = ("provided", "provided.al2", "provided.al2023")
_OLDEST_NODE = 18
_MAJORS = sorted(int(found["major"]) for each in NODES if (found := _NODE.fullmatch(each)))

OFFERED = (
    "python3.6 and later",
    *(f"nodejs{major}.x" for major in range(_OLDEST_NODE, _MAJORS[-1] + 1, 2)),
    *_OWN,
)
"""What may be asked for, in words."""


def served(runtime: str) -> str | None:
    """Return the runtime that a function gets which asks for ``runtime``; None: it gets none.

    There is one Python. Of Node it is the oldest that is offered and not older than asked for.
    """
    if _PYTHON.fullmatch(runtime):
        return f"python{PYTHON}"
    if found := _NODE.fullmatch(runtime):
        asked = int(found["major"])
        newer = [major for major in _MAJORS if major >= asked]
        return f"nodejs{newer[0]}.x" if newer and asked >= _OLDEST_NODE else None
    return runtime if runtime in _OWN else None
