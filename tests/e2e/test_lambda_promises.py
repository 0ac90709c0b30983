"""Reserved and provisioned concurrency through boto3."""

import asyncio

import pytest
from support.lambda_api import served
from support.lambda_records import recorded

from faas.model.function import LATEST


@pytest.fixture
async def place(tmp_path):
    async with recorded(tmp_path) as api:
        yield api


async def test_reserved_concurrency_leaves_a_tenth_of_the_account_free(place):
    for name in ("f", "g"):
        await place.function(name)
    put = {"FunctionName": "f", "ReservedConcurrentExecutions": 700}
    assert (await place("put_function_concurrency", **put))["ReservedConcurrentExecutions"] == 700
    settings = (await place("get_account_settings"))["AccountLimit"]
    assert settings["ConcurrentExecutions"] == 1000
    assert settings["UnreservedConcurrentExecutions"] == 300
    put["ReservedConcurrentExecutions"] = 900
    await place("put_function_concurrency", **put)
    assert await place.refused(
        "put_function_concurrency", FunctionName="g", ReservedConcurrentExecutions=1
    ) == (
        "InvalidParameterValueException",
        "Specified ReservedConcurrentExecutions for function decreases account's "
        "UnreservedConcurrentExecution below its minimum value of [100].",
    )
    assert "ReservedConcurrentExecutions" not in await place(
        "get_function_concurrency", FunctionName="g"
    )
    await place("delete_function_concurrency", FunctionName="f")
    assert place.capacity.told == [("f",)] * 3
    qualified = await place.refused("get_function_concurrency", FunctionName="f:1")
    assert qualified[0] == "InvalidParameterValueException"


async def test_provisioned_concurrency_is_for_versions_and_aliases(place):
    arn = await place.function("f")
    await place.version("f", "live")
    put = {"FunctionName": "f", "ProvisionedConcurrentExecutions": 3}
    assert await place.refused("put_provisioned_concurrency_config", **put, Qualifier=LATEST) == (
        "InvalidParameterValueException",
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
    )
    await place.registry.alias("f", "newest", LATEST, description="", weights={})
    refused = await place.refused("put_provisioned_concurrency_config", **put, Qualifier="newest")
    assert refused[1].endswith("cannot be applied to unpublished function versions.")
    assert await place.refused("put_provisioned_concurrency_config", **put, Qualifier="none") == (
        "ResourceNotFoundException",
        f"Cannot find alias arn: {arn}:none",
    )
    begun = await place("put_provisioned_concurrency_config", **put, Qualifier="live")
    assert begun["Status"] == "IN_PROGRESS"
    assert begun["RequestedProvisionedConcurrentExecutions"] == 3
    about = {"FunctionName": "f", "Qualifier": "live"}
    place.capacity.up = 2
    found = await place("get_provisioned_concurrency_config", **about)
    assert found["Status"] == "IN_PROGRESS"
    assert found["AllocatedProvisionedConcurrentExecutions"] == 2
    place.capacity.failure = "no room"
    found = await place("get_provisioned_concurrency_config", **about)
    assert (found["Status"], found["StatusReason"]) == ("FAILED", "no room")
    place.capacity.up = 3
    assert (await place("get_provisioned_concurrency_config", **about))["Status"] == "READY"
    listed = await place("list_provisioned_concurrency_configs", FunctionName="f")
    assert [one["FunctionArn"] for one in listed["ProvisionedConcurrencyConfigs"]] == [
        f"{arn}:live"
    ]
    conflict = await place.refused("put_provisioned_concurrency_config", **put, Qualifier="1")
    assert conflict == (
        "ResourceConflictException",
        "Version is pointed by a Provisioned Concurrency alias",
    )
    await place("delete_provisioned_concurrency_config", **about)
    assert await place.refused("get_provisioned_concurrency_config", **about) == (
        "ProvisionedConcurrencyConfigNotFoundException",
        "No Provisioned Concurrency Config found for this function",
    )
    assert place.capacity.told == [("f", "live"), ("f", "live")]


async def test_provisioned_and_reserved_concurrency_fit_into_each_other(place):
    await place.function("f")
    await place.version("f")
    reserve = {"FunctionName": "f", "ReservedConcurrentExecutions": 5}
    provision = {"FunctionName": "f", "Qualifier": "1", "ProvisionedConcurrentExecutions": 6}
    await place("put_function_concurrency", **reserve)
    code, text = await place.refused("put_provisioned_concurrency_config", **provision)
    assert code == "InvalidParameterValueException"
    assert "should not be greater than the reservedConcurrentExecution" in text
    provision["ProvisionedConcurrentExecutions"] = 5
    await place("put_provisioned_concurrency_config", **provision)
    reserve["ReservedConcurrentExecutions"] = 4
    refused = await place.refused("put_function_concurrency", **reserve)
    assert refused[0] == "InvalidParameterValueException"
    await place("delete_function_concurrency", FunctionName="f")
    provision["ProvisionedConcurrentExecutions"] = 901
    code, text = await place.refused("put_provisioned_concurrency_config", **provision)
    assert text.endswith("below its minimum value of [100].")


@pytest.mark.e2e
async def test_promised_instances_come_up_and_a_promise_of_none_throttles(tmp_path):
    source = "def handler(event, context):\n    return context.function_version\n"
    about = {"FunctionName": "f", "Qualifier": "1"}
    async with served(tmp_path) as api:
        await api.made("f", source)
        await api.do("publish_version", FunctionName="f")
        await api.do(
            "put_provisioned_concurrency_config", **about, ProvisionedConcurrentExecutions=2
        )
        found = {"Status": "IN_PROGRESS"}
        async with asyncio.timeout(30):
            while found["Status"] == "IN_PROGRESS":
                found = await api.do("get_provisioned_concurrency_config", **about)
        assert found["Status"] == "READY"
        assert found["AllocatedProvisionedConcurrentExecutions"] == 2
        assert (await api.call("f:1"))[0] == "1"
        await api.do("delete_provisioned_concurrency_config", **about)
        none = {"FunctionName": "f", "ReservedConcurrentExecutions": 0}
        await api.do("put_function_concurrency", **none)
        code, status, answer = await api.refused("invoke", FunctionName="f")
        assert (code, status) == ("TooManyRequestsException", 429)
        assert answer["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        await api.do("delete_function_concurrency", FunctionName="f")
        assert (await api.call("f"))[0] == "$LATEST"
