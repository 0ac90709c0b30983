"""A function URL: an HTTP door of a function's own. Pure."""

from dataclasses import dataclass, field

PREFIX = "function-url/"
"""Records ``function-url/FUNCTION/QUALIFIER``; `LATEST` stands for none."""


@dataclass(frozen=True, slots=True)
class Cors:
    """What pages of other origins may do; Lambda's ``Cors``; None: nothing was said."""

    allow_credentials: bool | None = None
    allow_headers: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: int = 0


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    """One URL.

    Attributes:
        id: What stands in the URL; cannot be guessed.
        qualifier: ``$LATEST`` or an alias.
        auth: ``NONE`` or ``AWS_IAM``.
        mode: ``BUFFERED`` or ``RESPONSE_STREAM``.
        created: As Lambda formats it.
        modified: As Lambda formats it.
    """

    function: str
    qualifier: str
    id: str
    auth: str
    created: str
    modified: str
    mode: str = "BUFFERED"
    cors: Cors | None = field(default=None)
