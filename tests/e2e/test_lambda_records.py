"""Destinations, mappings, URLs, tags and settings through boto3."""

import uuid

import pytest
from support.lambda_records import ACCOUNT, QUEUES, recorded, zipped

from faas.model.function import LATEST, Reference

STREAM = "arn:aws:redis:us-east-1:000000000000:stream/orders"


@pytest.fixture
async def place(tmp_path):
    async with recorded(tmp_path) as api:
        yield api


async def test_destinations_are_queues_and_functions_that_are_there(place):
    arn = await place.function("f")
    other = await place.function("g")
    queue = await place.queue("failures")
    config = {"OnSuccess": {"Destination": other}, "OnFailure": {"Destination": queue}}
    put = await place(
        "put_function_event_invoke_config", FunctionName="f", DestinationConfig=config
    )
    assert put["DestinationConfig"] == config
    assert put["FunctionArn"] == f"{arn}:$LATEST"
    updated = await place(
        "update_function_event_invoke_config", FunctionName="f", MaximumRetryAttempts=0
    )
    assert updated["DestinationConfig"] == config
    assert updated["MaximumRetryAttempts"] == 0
    got = await place("get_function_event_invoke_config", FunctionName="f")
    assert got["LastModified"] == updated["LastModified"]
    for bad, message in (
        (arn, "You can't specify the function as a destination for itself."),
        (f"{QUEUES}:none", f"The destination ARN {QUEUES}:none is invalid."),
        (f"{arn}x", f"The destination ARN {arn}x is invalid."),
        ("arn:aws:sns:us-east-1:000000000000:topic", "is not supported by Wherry"),
    ):
        code, text = await place.refused(
            "put_function_event_invoke_config",
            FunctionName="f",
            DestinationConfig={"OnFailure": {"Destination": bad}},
        )
        assert code == "InvalidParameterValueException"
        assert message in text


async def test_event_invoke_configs_are_kept_for_each_qualifier(place):
    arn = await place.function("f")
    await place.version("f", "live")
    put = {"FunctionName": "f", "MaximumEventAgeInSeconds": 60}
    for qualifier in ("live", "1", LATEST):
        await place("put_function_event_invoke_config", **put, Qualifier=qualifier)
    listed = await place("list_function_event_invoke_configs", FunctionName="f")
    assert sorted(one["FunctionArn"] for one in listed["FunctionEventInvokeConfigs"]) == [
        f"{arn}:$LATEST",
        f"{arn}:1",
        f"{arn}:live",
    ]
    await place("delete_function_event_invoke_config", FunctionName="f")
    assert await place.refused("get_function_event_invoke_config", FunctionName="f") == (
        "ResourceNotFoundException",
        f"The function {arn}:$LATEST doesn't have an EventInvokeConfig",
    )
    assert await place.refused("put_function_event_invoke_config", **put, Qualifier="9") == (
        "ResourceNotFoundException",
        "The function doesn't exist.",
    )
    assert await place.refused("put_function_event_invoke_config", FunctionName="f") == (
        "InvalidParameterValueException",
        "You must specify at least one of error handling or destination setting.",
    )


async def test_a_queue_is_mapped_to_a_function(place):
    arn, queue = await place.function("f"), await place.queue("jobs")
    made = await place(
        "create_event_source_mapping",
        EventSourceArn=queue,
        FunctionName="f",
        BatchSize=100,
        MaximumBatchingWindowInSeconds=2,
        FilterCriteria={"Filters": [{"Pattern": '{"body": {"kind": ["a"]}}'}]},
        FunctionResponseTypes=["ReportBatchItemFailures"],
        ScalingConfig={"MaximumConcurrency": 5},
        Tags={"team": "one"},
    )
    assert made["State"] == "Creating"
    assert made["FunctionArn"] == arn
    assert made["EventSourceMappingArn"] == f"{ACCOUNT}:event-source-mapping:{made['UUID']}"
    found = await place("get_event_source_mapping", UUID=made["UUID"])
    assert found["State"] == "Enabled"
    assert found["ScalingConfig"] == {"MaximumConcurrency": 5}
    assert found["FilterCriteria"]["Filters"] == [{"Pattern": '{"body": {"kind": ["a"]}}'}]
    assert "StartingPosition" not in found
    tags = await place("list_tags", Resource=made["EventSourceMappingArn"])
    assert tags["Tags"] == {"team": "one"}
    again = await place.refused(
        "create_event_source_mapping", EventSourceArn=queue, FunctionName=arn
    )
    assert again[0] == "ResourceConflictException"
    assert made["UUID"] in again[1]
    disabled = await place("update_event_source_mapping", UUID=made["UUID"], Enabled=False)
    assert disabled["State"] == "Disabling"
    found = await place("get_event_source_mapping", UUID=made["UUID"])
    assert (found["State"], found["BatchSize"]) == ("Disabled", 100)
    deleted = await place("delete_event_source_mapping", UUID=made["UUID"])
    assert deleted["State"] == "Deleting"
    assert await place.refused("get_event_source_mapping", UUID=made["UUID"]) == (
        "ResourceNotFoundException",
        "The resource you requested does not exist.",
    )


async def test_a_redis_stream_is_mapped_with_all_that_streams_have(place):
    await place.function("f")
    queue = await place.queue("lost")
    made = await place(
        "create_event_source_mapping",
        EventSourceArn=STREAM,
        FunctionName="f",
        StartingPosition="TRIM_HORIZON",
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=3,
        MaximumRecordAgeInSeconds=120,
        DestinationConfig={"OnFailure": {"Destination": queue}},
    )
    assert made["BatchSize"] == 100
    assert made["BisectBatchOnFunctionError"] is True
    assert made["DestinationConfig"] == {"OnFailure": {"Destination": queue}}
    assert made["LastProcessingResult"] == "No records processed"
    changed = await place(
        "update_event_source_mapping", UUID=made["UUID"], MaximumRetryAttempts=-1, BatchSize=7
    )
    assert changed["State"] == "Updating"
    assert changed["DestinationConfig"] == {"OnFailure": {"Destination": queue}}
    assert (changed["MaximumRetryAttempts"], changed["BatchSize"]) == (-1, 7)


async def test_a_mapping_can_be_disabled_when_its_function_is_gone_but_not_enabled(place):
    await place.function("f")
    queue = await place.queue("jobs")
    made = await place("create_event_source_mapping", EventSourceArn=queue, FunctionName="f")
    await place.registry.delete(Reference("f"))
    await place("update_event_source_mapping", UUID=made["UUID"], Enabled=False)
    code, text = await place.refused("update_event_source_mapping", UUID=made["UUID"], Enabled=True)
    assert (code, text) == ("InvalidParameterValueException", "Function does not exist")
    await place.function("g")
    moved = await place("update_event_source_mapping", UUID=made["UUID"], FunctionName="g")
    assert moved["FunctionArn"] == f"{ACCOUNT}:function:g"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"EventSourceArn": "arn:aws:kinesis:us-east-1:000000000000:stream/s"}, "Kinesis"),
        ({"EventSourceArn": "arn:aws:dynamodb:us-east-1:000000000000:table/t"}, "DynamoDB"),
        ({"EventSourceArn": "arn:aws:kafka:us-east-1:000000000000:cluster/c"}, "Amazon MSK"),
        ({"EventSourceArn": "arn:aws:mq:us-east-1:000000000000:broker:b"}, "Amazon MQ"),
        ({}, "Unrecognized event source."),
        ({"EventSourceArn": f"{QUEUES}:none"}, "NonExistentQueue"),
        ({"EventSourceArn": f"{QUEUES}:jobs", "BatchSize": 11}, "Maximum batch window in seconds"),
        ({"EventSourceArn": f"{QUEUES}:jobs", "MaximumRetryAttempts": 0}, "event sources of SQS"),
        ({"EventSourceArn": f"{QUEUES}:jobs", "TumblingWindowInSeconds": 3}, "not supported"),
        ({"EventSourceArn": f"{QUEUES}:quick"}, "Queue visibility timeout: 2 seconds is less"),
        ({"EventSourceArn": STREAM}, "Value null at 'startingPosition'"),
        ({"EventSourceArn": STREAM, "StartingPosition": "AT_TIMESTAMP"}, "AT_TIMESTAMP"),
        (
            {
                "EventSourceArn": STREAM,
                "StartingPosition": "LATEST",
                "MaximumRecordAgeInSeconds": 5,
            },
            "expected -1 or 60",
        ),
        ({"EventSourceArn": f"{QUEUES}:jobs", "FunctionName": "none"}, "Function does not exist"),
        (
            {"EventSourceArn": f"{QUEUES}:jobs", "FilterCriteria": {"Filters": [{}] * 6}},
            "at most 5",
        ),
        (
            {
                "EventSourceArn": f"{QUEUES}:jobs",
                "FilterCriteria": {"Filters": [{"Pattern": '{"body": "a"}'}]},
            },
            "Invalid filter pattern definition",
        ),
    ],
)
async def test_mappings_that_cannot_be_are_refused(place, parameters, message):
    await place.function("f")
    await place.queue("jobs")
    await place.queue("quick", VisibilityTimeout="2")
    code, text = await place.refused(
        "create_event_source_mapping", **{"FunctionName": "f", **parameters}
    )
    assert code in ("InvalidParameterValueException", "ValidationException")
    assert message in text
    assert (await place("list_event_source_mappings"))["EventSourceMappings"] == []


async def test_mappings_are_listed_by_source_and_by_function(place):
    await place.function("f")
    await place.version("f", "live")
    for name in ("one", "two"):
        queue = await place.queue(name)
        for function in ("f", "f:live"):
            await place("create_event_source_mapping", EventSourceArn=queue, FunctionName=function)
    for filters, count in (
        ({}, 4),
        ({"EventSourceArn": f"{QUEUES}:one"}, 2),
        ({"FunctionName": "f"}, 4),
        ({"FunctionName": "f:live"}, 2),
        ({"FunctionName": "f:live", "EventSourceArn": f"{QUEUES}:two"}, 1),
        ({"MaxItems": 3}, 3),
    ):
        found = await place("list_event_source_mappings", **filters)
        assert len(found["EventSourceMappings"]) == count


async def test_a_function_url_is_made_changed_listed_and_deleted(place):
    arn = await place.function("f")
    await place.version("f", "live")
    made = await place("create_function_url_config", FunctionName="f", AuthType="NONE")
    assert made["FunctionArn"] == arn
    assert made["InvokeMode"] == "BUFFERED"
    assert "Cors" not in made
    again = await place.refused("create_function_url_config", FunctionName=arn, AuthType="NONE")
    assert again[0] == "ResourceConflictException"
    other = await place(
        "create_function_url_config", FunctionName="f", AuthType="AWS_IAM", Qualifier="live"
    )
    assert other["FunctionUrl"] != made["FunctionUrl"]
    assert other["FunctionArn"] == f"{arn}:live"
    changed = await place(
        "update_function_url_config",
        FunctionName="f",
        Cors={"AllowOrigins": ["*"], "AllowCredentials": False},
        InvokeMode="RESPONSE_STREAM",
    )
    assert changed["FunctionUrl"] == made["FunctionUrl"]
    assert changed["Cors"] == {"AllowOrigins": ["*"], "AllowCredentials": False}
    assert changed["AuthType"] == "NONE"
    assert changed["CreationTime"] == made["CreationTime"]
    listed = await place("list_function_url_configs", FunctionName="f")
    assert len(listed["FunctionUrlConfigs"]) == 2
    await place("delete_function_url_config", FunctionName="f")
    for operation in ("get_function_url_config", "delete_function_url_config"):
        assert await place.refused(operation, FunctionName="f") == (
            "ResourceNotFoundException",
            "The resource you requested does not exist.",
        )
    missing = {"FunctionName": "f", "Qualifier": "none", "AuthType": "NONE"}
    assert await place.refused("create_function_url_config", **missing) == (
        "ResourceNotFoundException",
        "Function does not exist",
    )
    bad = {"FunctionName": "f", "AuthType": "NONE", "Cors": {"AllowMethods": ["TRACE"]}}
    refused = await place.refused("create_function_url_config", **bad)
    assert refused[0] == "InvalidParameterValueException"


async def test_tags_are_added_taken_away_and_limited(place):
    arn = await place.function("f", tags={"old": "1"})
    revision = (await place.registry.get(Reference("f"))).revision
    await place("tag_resource", Resource=arn, Tags={"spam": "eggs", "old": "2"})
    assert (await place("list_tags", Resource=arn))["Tags"] == {"spam": "eggs", "old": "2"}
    await place("untag_resource", Resource=arn, TagKeys=["spam", "trolls"])
    assert (await place("list_tags", Resource=arn))["Tags"] == {"old": "2"}
    assert (await place.registry.get(Reference("f"))).revision == revision
    many = {f"k{number}": "" for number in range(50)}
    for tags, message in (
        (many, "Number of tags exceeds resource tag limit."),
        ({}, "An error occurred and the request cannot be processed."),
        ({"aws:x": "1"}, "reserved"),
    ):
        code, text = await place.refused("tag_resource", Resource=arn, Tags=tags)
        assert code == "InvalidParameterValueException"
        assert message in text
    refused = await place.refused("list_tags", Resource=f"{arn}:1")
    assert refused[0] == "InvalidParameterValueException"
    for gone in (f"{arn}x", f"{ACCOUNT}:event-source-mapping:{uuid.uuid4()}"):
        code, _ = await place.refused("tag_resource", Resource=gone, Tags={"a": "b"})
        assert code == "ResourceNotFoundException"


async def test_the_account_counts_functions_versions_and_layers(place):
    await place.function("f")
    await place.version("f")
    layer = zipped(a="1")
    await place("publish_layer_version", LayerName="l", Content={"ZipFile": layer})
    found = await place("get_account_settings")
    size = len(zipped(app="x = 1"))
    assert found["AccountUsage"] == {"TotalCodeSize": 2 * size + len(layer), "FunctionCount": 1}
    assert found["AccountLimit"]["CodeSizeZipped"] == 52_428_800


async def test_circles_of_events_end_unless_a_function_may_go_on(place):
    await place.function("f")
    for loop in ("Terminate", "Allow"):
        got = await place("get_function_recursion_config", FunctionName="f")
        assert got["RecursiveLoop"] == "Terminate"
        await place("put_function_recursion_config", FunctionName="f", RecursiveLoop=loop)
    got = await place("get_function_recursion_config", FunctionName="f")
    assert got["RecursiveLoop"] == "Allow"
    await place.registry.delete(Reference("f"))
    await place.function("f")
    got = await place("get_function_recursion_config", FunctionName="f")
    assert got["RecursiveLoop"] == "Terminate"


async def test_settings_with_one_value_can_be_read_and_set_to_it(place):
    arn = await place.function("f")
    got = await place("get_runtime_management_config", FunctionName="f")
    assert (got["UpdateRuntimeOn"], got["FunctionArn"]) == ("Auto", arn)
    await place("put_runtime_management_config", FunctionName="f", UpdateRuntimeOn="Auto")
    code, _ = await place.refused(
        "put_runtime_management_config", FunctionName="f", UpdateRuntimeOn="FunctionUpdate"
    )
    assert code == "InvalidParameterValueException"
    got = await place("get_function_code_signing_config", FunctionName="f")
    assert "CodeSigningConfigArn" not in got
    assert (await place("list_code_signing_configs"))["CodeSigningConfigs"] == []


async def test_what_a_function_had_goes_with_it(place):
    arn = await place.function("f")
    await place("create_function_url_config", FunctionName="f", AuthType="NONE")
    await place("put_function_event_invoke_config", FunctionName="f", MaximumRetryAttempts=0)
    await place("put_function_concurrency", FunctionName="f", ReservedConcurrentExecutions=5)
    await place.registry.delete(Reference("f"))
    await place.function("f")
    for operation in ("get_function_url_config", "get_function_event_invoke_config", "get_policy"):
        assert (await place.refused(operation, FunctionName=arn))[0] == "ResourceNotFoundException"
    got = await place("get_function_concurrency", FunctionName="f")
    assert "ReservedConcurrentExecutions" not in got
