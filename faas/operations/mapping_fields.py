"""What a request says of an event source mapping, checked: requests to fields, fields to answers.

Source: AWS Lambda API Reference, CreateEventSourceMapping; Lambda Developer Guide, "Amazon SQS" and
"Lambda event source mappings".
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from faas.api.asked import Asked
from faas.api.faults import ValidationFault
from faas.lambda_errors import InvalidParameter
from faas.model.mapping import EventSourceMapping
from faas.model.source import Source

MAX_FILTERS = 5
"""Most patterns of one mapping. Source: Lambda Developer Guide, "Control which events"."""
_FREE_BATCH = 10
"""Records of a queue that one call may take without waiting for more."""
_LEAST_AGE = 60

_REFUSED: Mapping[str, tuple[object, ...]] = {
    "AmazonManagedKafkaEventSourceConfig": (),
    "DocumentDBEventSourceConfig": (),
    "KMSKeyArn": ("",),
    "LoggingConfig": (),
    "MetricsConfig": ({"Metrics": []},),
    "ParallelizationFactor": (1,),
    "ProvisionedPollerConfig": (),
    "Queues": (),
    "SelfManagedEventSource": (),
    "SelfManagedKafkaEventSourceConfig": (),
    "SourceAccessConfigurations": ([],),
    "StartingPositionTimestamp": (),
    "Topics": (),
    "TumblingWindowInSeconds": (0,),
}
"""Parameters that would have no effect here, each with the values that ask for none."""
_STREAMS_ONLY = (
    "BisectBatchOnFunctionError",
    "DestinationConfig",
    "MaximumRecordAgeInSeconds",
    "MaximumRetryAttempts",
    "StartingPosition",
)
_QUEUES_ONLY = ("ScalingConfig",)
_NOTHING: tuple[object, ...] = ({}, {"OnFailure": {}}, {"OnSuccess": {}, "OnFailure": {}})
"""Configurations that ask for nothing."""
_PLAIN: Mapping[str, str] = {
    "Enabled": "enabled",
    "BatchSize": "batch_size",
    "MaximumBatchingWindowInSeconds": "window",
    "BisectBatchOnFunctionError": "bisect",
    "MaximumRecordAgeInSeconds": "max_age",
    "MaximumRetryAttempts": "max_retries",
    "StartingPosition": "starting_position",
}
"""Parameters that are fields as they stand."""


def refuse_unsupported(asked: Asked, source: Source) -> None:
    """Say so when a request asks for what would have no effect.

    Raises:
        InvalidParameter: It does.
    """
    for name, harmless in _REFUSED.items():
        value = asked.get(name)
        if value is not None and value not in harmless:
            raise InvalidParameter(f"{name} is not supported by Wherry, expected it left out")
    for name in _QUEUES_ONLY if source.streams else _STREAMS_ONLY:
        value = asked.get(name)
        if value is not None and value is not False and value not in _NOTHING:
            raise InvalidParameter(f"{name} is not supported for event sources of {source.title}")
    if asked.get("StartingPosition") == "AT_TIMESTAMP":
        raise InvalidParameter(
            "StartingPosition AT_TIMESTAMP is not supported by Wherry, expected LATEST or "
            "TRIM_HORIZON"
        )


def fields_of(asked: Asked) -> dict[str, Any]:
    """Return the fields of `EventSourceMapping` that a request sets.

    Raises:
        InvalidParameter: There are too many filters.
    """
    fields = {
        field: asked.get(name) for name, field in _PLAIN.items() if asked.get(name) is not None
    }
    if "window" in fields:
        fields["window"] = float(fields["window"])
    criteria = asked.get("FilterCriteria")
    if criteria is not None:
        filters = criteria.get("Filters") or ()
        if len(filters) > MAX_FILTERS:
            raise InvalidParameter(
                f"FilterCriteria: found {len(filters)} filters, expected at most {MAX_FILTERS}"
            )
        fields["filters"] = tuple(one.get("Pattern") or "{}" for one in filters)
    if (types := asked.get("FunctionResponseTypes")) is not None:
        fields["report_failures"] = "ReportBatchItemFailures" in types
    if (scaling := asked.get("ScalingConfig")) is not None:
        fields["max_concurrency"] = scaling.get("MaximumConcurrency") or 0
    return fields


def check(mapping: EventSourceMapping, source: Source) -> None:
    """Refuse a mapping whose numbers do not go together.

    Raises:
        InvalidParameter: They do not.
        ValidationFault: A stream has no starting position.
    """
    if source.streams and not mapping.starting_position:
        raise ValidationFault(
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy "
            "constraint: Member must not be null."
        )
    if mapping.batch_size > source.largest_batch:
        raise InvalidParameter(
            f"Batch size {mapping.batch_size} is over the {source.largest_batch} that event "
            f"sources of {source.title} may have"
        )
    if source.ordered and mapping.window:
        raise InvalidParameter("Batching window is not supported for FIFO queues")
    waits = mapping.window or source.streams
    if mapping.batch_size > _FREE_BATCH and not waits:
        raise InvalidParameter(
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is "
            f"greater than {_FREE_BATCH}"
        )
    if mapping.max_age != -1 and mapping.max_age < _LEAST_AGE:
        raise InvalidParameter(
            f"MaximumRecordAgeInSeconds: found {mapping.max_age}, expected -1 or {_LEAST_AGE} to "
            "604800"
        )


def configuration(
    mapping: EventSourceMapping, source: Source, arn: str, *, state: str = ""
) -> dict[str, Any]:
    """Return a mapping as an EventSourceMappingConfiguration.

    Args:
        mapping: The mapping.
        source: What it reads.
        arn: Of the mapping.
        state: What it is on the way to; empty: it rests.
    """
    resting = "Enabled" if mapping.enabled else "Disabled"
    shape: dict[str, Any] = {
        "UUID": mapping.uuid,
        "EventSourceMappingArn": arn,
        "EventSourceArn": mapping.source,
        "FunctionArn": mapping.arn,
        "BatchSize": mapping.batch_size,
        "MaximumBatchingWindowInSeconds": int(mapping.window),
        "LastModified": datetime.fromtimestamp(mapping.modified, UTC),
        "State": state or resting,
        "StateTransitionReason": "User action" if source.streams else "USER_INITIATED",
        "FunctionResponseTypes": ["ReportBatchItemFailures"] if mapping.report_failures else [],
    }
    if mapping.filters:
        shape["FilterCriteria"] = {"Filters": [{"Pattern": one} for one in mapping.filters]}
    if mapping.max_concurrency:
        shape["ScalingConfig"] = {"MaximumConcurrency": mapping.max_concurrency}
    return shape | _stream_shape(mapping) if source.streams else shape


def _stream_shape(mapping: EventSourceMapping) -> dict[str, Any]:
    failure = {"Destination": mapping.on_failure} if mapping.on_failure else {}
    return {
        "StartingPosition": mapping.starting_position,
        "MaximumRetryAttempts": mapping.max_retries,
        "MaximumRecordAgeInSeconds": mapping.max_age,
        "BisectBatchOnFunctionError": mapping.bisect,
        "ParallelizationFactor": 1,
        "TumblingWindowInSeconds": 0,
        "LastProcessingResult": mapping.last_result,
        "DestinationConfig": {"OnFailure": failure},
    }
