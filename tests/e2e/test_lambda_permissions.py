"""Resource-based policies of functions through boto3."""

import asyncio
import json

import pytest
from support.lambda_records import ACCOUNT, UNKNOWN, recorded

from faas.model.function import LATEST, Reference


@pytest.fixture
async def place(tmp_path):
    async with recorded(tmp_path) as api:
        yield api


async def test_a_permission_becomes_a_statement_with_every_condition(place):
    arn = await place.function("f")
    added = await place(
        "add_permission",
        FunctionName="f",
        StatementId="one",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        SourceArn="arn:aws:s3:::photos",
        SourceAccount="123456789012",
        EventSourceToken="token",
        PrincipalOrgID="o-a1b2c3d4e5",
        FunctionUrlAuthType="NONE",
        InvokedViaFunctionUrl=True,
    )
    assert json.loads(added["Statement"]) == {
        "Sid": "one",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "lambda:InvokeFunctionUrl",
        "Resource": arn,
        "Condition": {
            "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::photos"},
            "StringEquals": {
                "AWS:SourceAccount": "123456789012",
                "aws:PrincipalOrgID": "o-a1b2c3d4e5",
                "lambda:EventSourceToken": "token",
                "lambda:FunctionUrlAuthType": "NONE",
            },
            "Bool": {"lambda:InvokedViaFunctionUrl": "true"},
        },
    }
    policy = json.loads((await place("get_policy", FunctionName=arn))["Policy"])
    assert policy["Statement"] == [json.loads(added["Statement"])]
    assert (policy["Version"], policy["Id"]) == ("2012-10-17", "default")


@pytest.mark.parametrize(
    ("principal", "spelled"),
    [
        ("123456789012", {"AWS": "arn:aws:iam::123456789012:root"}),
        ("events.amazonaws.com", {"Service": "events.amazonaws.com"}),
        ("arn:aws:iam::123456789012:role/r", {"AWS": "arn:aws:iam::123456789012:role/r"}),
    ],
)
async def test_principals_are_spelled_as_in_iam(place, principal, spelled):
    await place.function("f")
    ask = {"FunctionName": "f", "StatementId": "one", "Action": "lambda:InvokeFunction"}
    added = await place("add_permission", **ask, Principal=principal)
    assert json.loads(added["Statement"])["Principal"] == spelled
    code, text = await place.refused("add_permission", **ask, Principal="nobody")
    assert (code, text) == (
        "InvalidParameterValueException",
        "The provided principal was invalid. Please check the principal and try again.",
    )


async def test_each_version_and_alias_has_a_policy_of_its_own(place):
    arn = await place.function("f")
    await place.version("f", "live")
    ask = {"FunctionName": "f", "Action": "lambda:InvokeFunction", "Principal": "*"}
    for qualifier in ("1", "live"):
        added = await place("add_permission", **ask, StatementId="one", Qualifier=qualifier)
        assert json.loads(added["Statement"])["Resource"] == f"{arn}:{qualifier}"
    assert await place.refused("get_policy", FunctionName="f") == (
        "ResourceNotFoundException",
        "The resource you requested does not exist.",
    )
    await place("remove_permission", FunctionName=f"{arn}:live", StatementId="one")
    assert (await place("get_policy", FunctionName="f", Qualifier="1"))["Policy"]
    refused = await place.refused("get_policy", FunctionName="f", Qualifier="live")
    assert refused[0] == "ResourceNotFoundException"
    assert await place.refused("add_permission", **ask, StatementId="one", Qualifier="5") == (
        "ResourceNotFoundException",
        f"Function not found: {arn}:5",
    )
    assert await place.refused("add_permission", **ask, StatementId="one", Qualifier=LATEST) == (
        "InvalidParameterValueException",
        "We currently do not support adding policies for $LATEST.",
    )


async def test_permissions_honour_revisions_and_ids(place):
    await place.function("f")
    ask = {"FunctionName": "f", "Action": "lambda:InvokeFunction", "Principal": "*"}
    assert await place.refused("remove_permission", FunctionName="f", StatementId="x") == (
        "ResourceNotFoundException",
        "No policy is associated with the given resource.",
    )
    revision = (await place.registry.get(Reference("f"))).revision
    await place("add_permission", **ask, StatementId="one", RevisionId=revision)
    stale = await place.refused("add_permission", **ask, StatementId="two", RevisionId=revision)
    assert stale[0] == "PreconditionFailedException"
    revision = (await place("get_policy", FunctionName="f"))["RevisionId"]
    await place("add_permission", **ask, StatementId="two", RevisionId=revision)
    refused = await place.refused("add_permission", **ask, StatementId="two")
    assert refused[0] == "ResourceConflictException"
    assert await place.refused("remove_permission", FunctionName="f", StatementId="three") == (
        "ResourceNotFoundException",
        "Statement three is not found in resource policy.",
    )
    assert await place.refused("get_policy", FunctionName="none") == (
        "ResourceNotFoundException",
        f"Function not found: {ACCOUNT}:function:none",
    )


async def test_the_kind_of_signature_is_a_condition_of_urls_only(place):
    await place.function("f")
    code, text = await place.refused(
        "add_permission",
        FunctionName="f",
        StatementId="one",
        Action="lambda:InvokeFunction",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    assert code == "InvalidParameterValueException"
    assert text == "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action"


async def test_a_policy_has_a_limit(place):
    await place.function("f")
    long = f"arn:aws:s3:::{'x' * 9000}"
    ask = {"FunctionName": "f", "Action": "lambda:InvokeFunction", "Principal": "*"}
    for name in ("one", "two"):
        await place("add_permission", **ask, StatementId=name, SourceArn=long)
    code, text = await place.refused("add_permission", **ask, StatementId="three", SourceArn=long)
    assert code == "PolicyLengthExceededException"
    assert text.endswith("is bigger than the limit (20480).")


async def test_many_permissions_at_once_are_all_kept(place):
    await place.function("f")
    ask = {"FunctionName": "f", "Action": "lambda:InvokeFunction", "Principal": "*"}
    async with asyncio.TaskGroup() as tasks:
        for number in range(8):
            tasks.create_task(place("add_permission", **ask, StatementId=f"s{number}"))
    policy = json.loads((await place("get_policy", FunctionName="f"))["Policy"])
    assert sorted(one["Sid"] for one in policy["Statement"]) == [f"s{n}" for n in range(8)]


async def test_a_whole_policy_is_put_read_and_deleted(place):
    arn = await place.function("f")
    statement = {
        "Sid": "no",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "lambda:InvokeFunctionUrl",
        "Resource": arn,
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    put = await place("put_resource_policy", ResourceArn=arn, Policy=document)
    assert json.loads(put["Policy"])["Statement"] == [statement]
    got = await place("get_resource_policy", ResourceArn=arn)
    assert got["RevisionId"] == put["RevisionId"]
    changes = (
        {"Resource": "*"},
        {"Action": "lambda:*"},
        {"Action": {"a": "b"}},
        {"Sid": "\ud800"},
        {"Sid": 1},
        {"NotAction": "lambda:GetFunction"},
        {"Principal": ["*"]},
        {"Principal": {"AWS": {"a": "b"}}},
        {"Condition": "none"},
        {"Condition": {"Bool": "true"}},
        {"Condition": {"Bool": {"key": json.loads("[" * 400 + "]" * 400)}}},
    )
    wrong = [json.dumps({"Statement": [statement | change]}) for change in changes]
    for bad in ("[]", "{", "{}", *wrong):
        code, _ = await place.refused("put_resource_policy", ResourceArn=arn, Policy=bad)
        assert code == "InvalidParameterValueException"
    code, _ = await place.refused("delete_resource_policy", ResourceArn=arn, RevisionId=UNKNOWN)
    assert code == "PreconditionFailedException"
    await place("delete_resource_policy", ResourceArn=arn, RevisionId=put["RevisionId"])
    assert (await place.refused("get_policy", FunctionName="f"))[0] == "ResourceNotFoundException"
