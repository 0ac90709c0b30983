"""How asynchronous events of a function are tried again and where they end. Pure."""

from dataclasses import dataclass

PREFIX = "function-event-invoke/"
"""Records ``function-event-invoke/FUNCTION/QUALIFIER``; `LATEST` stands for none."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Lambda's EventInvokeConfig.

    Attributes:
        qualifier: ``$LATEST``, a version's number or an alias.
        modified: Unix seconds.
        max_age: Seconds after which an event is given up, 60 to 21600.
        max_retries: Tries after the first, 0 to 2.
        on_success: ARN of a queue or a function; empty: none.
        on_failure: ARN of a queue or a function; empty: none.
    """

    function: str
    qualifier: str
    modified: float
    max_age: int = 21600
    max_retries: int = 2
    on_success: str = ""
    on_failure: str = ""
