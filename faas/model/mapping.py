"""An event source mapping: what is read from a queue or a stream into a function. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

PREFIX = "function-mapping/"
"""Records ``function-mapping/UUID``."""


@dataclass(frozen=True, slots=True)
class EventSourceMapping:
    """Lambda's EventSourceMappingConfiguration.

    Attributes:
        uuid: Its name.
        source: ARN of the queue or stream.
        function: The function's name.
        qualifier: ``$LATEST``, a version's number or an alias.
        arn: The function's ARN as the mapping was told, qualified when it was.
        modified: Unix seconds.
        enabled: Whether it reads.
        batch_size: Most records in one call.
        window: Seconds (>= 0) to wait for a batch to fill.
        filters: JSON patterns, one of which a record must match; none: all records.
        on_failure: ARN of where records go that are given up; empty: nowhere.
        max_retries: Tries after the first, for streams; -1: until they are too old.
        max_age: Seconds after which a stream's record is given up; -1: never.
        bisect: Whether a failed batch of a stream is tried again in halves.
        starting_position: ``LATEST`` or ``TRIM_HORIZON``, for streams.
        report_failures: Whether answers name the records that failed.
        max_concurrency: Most calls at once, for queues; 0: as the function allows.
        last_result: What the last call came to, as Lambda says it.
        tags: Of the mapping.
    """

    uuid: str
    source: str
    function: str
    qualifier: str
    arn: str
    modified: float
    enabled: bool = True
    batch_size: int = 10
    window: float = 0.0
    filters: tuple[str, ...] = ()
    on_failure: str = ""
    max_retries: int = -1
    max_age: int = -1
    bisect: bool = False
    starting_position: str = ""
    report_failures: bool = False
    max_concurrency: int = 0
    last_result: str = "No records processed"
    tags: Mapping[str, str] = field(default_factory=dict)
