"""boto3 against versions and aliases: what is published stays, names move, weights divide."""

import asyncio
import hashlib
import json
from collections import Counter

import aiohttp
import pytest
from aiohttp import web
from support.lambda_api import ROLE, served, until, zipped

from faas.code.package import checksum
from wherry.serve import Address, bound, listening
from wherry.store.memory import MemoryStore

pytestmark = pytest.mark.e2e

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
WHO = """
import os
MARK = {mark!r}
def handler(event, context):
    return [MARK, context.function_version, context.invoked_function_arn]
"""


def who(mark):
    return zipped(WHO.format(mark=mark))


def given(**more):
    return {
        "FunctionName": "f",
        "Role": ROLE,
        "Runtime": "python3.11",
        "Handler": "app.handler",
        "Code": {"ZipFile": who("one")},
    } | more


async def two_versions(api):
    """Publish version 1, which says "one", and 2, which says "two"."""
    await api.do("create_function", **given(Publish=True))
    await api.active("f")
    await api.do("update_function_code", FunctionName="f", ZipFile=who("two"), Publish=True)
    await api.updated("f")


async def test_a_version_runs_what_it_was_whatever_becomes_of_the_function(tmp_path):
    async with served(tmp_path) as api:
        await two_versions(api)
        await api.do("update_function_code", FunctionName="f", ZipFile=who("three"))
        await api.updated("f")
        assert (await api.call("f"))[0] == ["three", "$LATEST", ARN]
        assert (await api.call("f", Qualifier="1"))[0] == ["one", "1", ARN + ":1"]
        payload, _, answer = await api.call(ARN + ":2")
        assert payload == ["two", "2", ARN + ":2"]
        assert answer["ExecutedVersion"] == "2"


async def test_an_alias_moves_from_one_version_to_the_next(tmp_path):
    async with served(tmp_path) as api:
        await two_versions(api)
        alias = await api.do("create_alias", FunctionName="f", Name="live", FunctionVersion="1")
        assert alias["AliasArn"] == ARN + ":live"
        payload, _, answer = await api.call("f:live")
        assert payload == ["one", "1", ARN + ":live"]
        assert answer["ExecutedVersion"] == "1"
        moved = await api.do(
            "update_alias",
            FunctionName="f",
            Name="live",
            FunctionVersion="2",
            RevisionId=alias["RevisionId"],
        )
        assert moved["RevisionId"] != alias["RevisionId"]
        assert (await api.call("f", Qualifier="live"))[0][:2] == ["two", "2"]
        code, status, _ = await api.refused(
            "update_alias",
            FunctionName="f",
            Name="live",
            FunctionVersion="1",
            RevisionId=alias["RevisionId"],
        )
        assert (code, status) == ("PreconditionFailedException", 412)


async def test_weights_divide_calls_between_two_versions(tmp_path):
    async with served(tmp_path) as api:
        await two_versions(api)
        routing = {"AdditionalVersionWeights": {"2": 0.5}}
        await api.do(
            "create_alias",
            FunctionName="f",
            Name="live",
            FunctionVersion="1",
            RoutingConfig=routing,
        )
        seen = Counter()
        for _ in range(40):
            _, _, answer = await api.call("f:live")
            seen[answer["ExecutedVersion"]] += 1
        assert set(seen) == {"1", "2"}
        empty = await api.do("update_alias", FunctionName="f", Name="live", RoutingConfig={})
        assert "RoutingConfig" not in empty
        assert {(await api.call("f:live"))[2]["ExecutedVersion"] for _ in range(10)} == {"1"}


async def test_publishing_again_without_a_change_gives_the_same_version(tmp_path):
    async with served(tmp_path) as api:
        await api.do("create_function", **given())
        await api.active("f")
        first = await api.do("publish_version", FunctionName="f", Description="first")
        assert (first["Version"], first["FunctionArn"]) == ("1", ARN + ":1")
        assert first["Description"] == "first"
        again = await api.do("publish_version", FunctionName="f")
        assert (again["Version"], again["RevisionId"]) == ("1", first["RevisionId"])
        await api.do("update_function_configuration", FunctionName="f", Timeout=9)
        await api.updated("f")
        assert (await api.do("publish_version", FunctionName="f"))["Version"] == "2"


async def test_publishing_can_insist_on_code_and_revision(tmp_path):
    async with served(tmp_path, eager=False) as api:
        created = await api.do("create_function", **given())
        code, status, said = await api.refused(
            "publish_version", FunctionName="f", CodeSha256="other"
        )
        assert (code, status) == ("InvalidParameterValueException", 400)
        assert "is different from current CodeSHA256 in $LATEST" in said["Error"]["Message"]
        code, status, _ = await api.refused("publish_version", FunctionName="f", RevisionId="x")
        assert (code, status) == ("PreconditionFailedException", 412)
        published = await api.do(
            "publish_version",
            FunctionName="f",
            CodeSha256=created["CodeSha256"],
            RevisionId=created["RevisionId"],
        )
        assert published["Version"] == "1"


async def test_of_two_updates_at_once_the_second_is_told_to_wait(tmp_path):
    async with served(tmp_path) as api:
        slow = "import time\ntime.sleep(1)\ndef handler(event, context): pass\n"
        await api.made("f", slow)
        await api.do("update_function_code", FunctionName="f", ZipFile=zipped(slow + "#"))
        code, status, said = await api.refused(
            "update_function_configuration", FunctionName="f", Timeout=9
        )
        assert (code, status) == ("ResourceConflictException", 409)
        assert f"An update is in progress for resource: {ARN}" in said["Error"]["Message"]
        await api.updated("f")
        await api.do("update_function_configuration", FunctionName="f", Timeout=9)


async def test_a_stale_revision_changes_nothing(tmp_path):
    async with served(tmp_path, eager=False) as api:
        created = await api.do("create_function", **given())
        await api.do("update_function_configuration", FunctionName="f", Timeout=9)
        for operation, more in (
            ("update_function_configuration", {"Timeout": 5}),
            ("update_function_code", {"ZipFile": who("two")}),
        ):
            code, status, said = await api.refused(
                operation, FunctionName="f", RevisionId=created["RevisionId"], **more
            )
            assert (code, status) == ("PreconditionFailedException", 412)
            assert "does not match the latest Revision Id" in said["Error"]["Message"]
        found = await api.do("get_function_configuration", FunctionName="f")
        assert (found["Timeout"], found["CodeSha256"]) == (9, created["CodeSha256"])


async def test_a_dry_run_shows_what_would_be_and_leaves_what_is(tmp_path):
    async with served(tmp_path, eager=False) as api:
        created = await api.do("create_function", **given())
        shown = await api.do(
            "update_function_code", FunctionName="f", ZipFile=who("two"), DryRun=True
        )
        assert shown["CodeSha256"] == checksum(hashlib.sha256(who("two")).hexdigest())
        found = await api.do("get_function_configuration", FunctionName="f")
        assert found["CodeSha256"] == created["CodeSha256"]


async def test_a_version_that_an_alias_needs_is_not_deleted(tmp_path):
    async with served(tmp_path) as api:
        await two_versions(api)
        await api.do("create_alias", FunctionName="f", Name="live", FunctionVersion="1")
        code, status, said = await api.refused("delete_function", FunctionName="f", Qualifier="1")
        assert (code, status) == ("ResourceConflictException", 409)
        assert "aliases reference it: [live]" in said["Error"]["Message"]
        await api.do("delete_alias", FunctionName="f", Name="live")
        await api.do("delete_function", FunctionName="f", Qualifier="1")
        code, status, said = await api.refused("invoke", FunctionName="f", Qualifier="1")
        assert (code, status) == ("ResourceNotFoundException", 404)
        assert said["Error"]["Message"] == f"Function not found: {ARN}:1"
        assert (await api.call("f", Qualifier="2"))[0][0] == "two"


async def test_what_is_listed_and_shown_names_its_version(tmp_path):
    async with served(tmp_path, eager=False) as api:
        await api.do("create_function", **given(Publish=True, Tags={"a": "b"}))
        await api.do("create_alias", FunctionName="f", Name="live", FunctionVersion="1")
        every = await api.do("list_functions", FunctionVersion="ALL")
        assert [each["FunctionArn"] for each in every["Functions"]] == [
            ARN + ":$LATEST",
            ARN + ":1",
        ]
        latest = await api.do("list_functions")
        assert [each["FunctionArn"] for each in latest["Functions"]] == [ARN]
        versions = await api.do("list_versions_by_function", FunctionName="f", MaxItems=1)
        assert [each["Version"] for each in versions["Versions"]] == ["$LATEST"]
        rest = await api.do(
            "list_versions_by_function", FunctionName="f", Marker=versions["NextMarker"]
        )
        assert [each["Version"] for each in rest["Versions"]] == ["1"]
        for qualifier, version in (("$LATEST", "$LATEST"), ("1", "1"), ("live", "1")):
            found = await api.do("get_function", FunctionName="f", Qualifier=qualifier)
            assert found["Configuration"]["FunctionArn"] == f"{ARN}:{qualifier}"
            assert found["Configuration"]["Version"] == version
            assert found["Tags"] == {"a": "b"}
        aliases = await api.do("list_aliases", FunctionName="f", FunctionVersion="2")
        assert aliases["Aliases"] == []
        code, _, said = await api.refused("get_alias", FunctionName="f", Name="other")
        assert code == "ResourceNotFoundException"
        assert said["Error"]["Message"] == f"Cannot find alias arn: {ARN}:other"


async def test_the_code_can_be_fetched_as_it_was_uploaded(tmp_path):
    async with served(tmp_path, eager=False) as api:
        await api.do("create_function", **given())
        code = (await api.do("get_function", FunctionName="f"))["Code"]
        assert code["RepositoryType"] == "S3"
        async with aiohttp.ClientSession() as http, http.get(code["Location"]) as answer:
            assert await answer.read() == who("one")
            wrong = code["Location"].replace(code["Location"][-68:-4], "0" * 64)
        async with aiohttp.ClientSession() as http, http.get(wrong) as answer:
            assert answer.status == 404


async def test_a_function_keeps_all_that_it_was_created_with(tmp_path):
    async with served(tmp_path, eager=False) as api:
        wanted = {
            "EphemeralStorage": {"Size": 1024},
            "TracingConfig": {"Mode": "Active"},
            "KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/one",
            "Environment": {"Variables": {"NAME": "value"}},
            "Description": "all of it",
            "MemorySize": 256,
            "Timeout": 30,
        }
        snap = {"ApplyOn": "PublishedVersions"}
        created = await api.do("create_function", **given(**wanted, SnapStart=snap))
        shown = (await api.do("get_function", FunctionName="f"))["Configuration"]
        for name, value in wanted.items():
            assert created[name] == value
            assert shown[name] == value
        assert shown["SnapStart"] == snap | {"OptimizationStatus": "Off"}
        published = await api.do("publish_version", FunctionName="f")
        assert published["SnapStart"] == snap | {"OptimizationStatus": "On"}
        json_logs = {"LogFormat": "JSON", "SystemLogLevel": "WARN"}
        logged = await api.do(
            "update_function_configuration", FunctionName="f", LoggingConfig=json_logs
        )
        assert logged["LoggingConfig"] == json_logs | {
            "ApplicationLogLevel": "INFO",
            "LogGroup": "/aws/lambda/f",
        }
        plain = {"LogFormat": "Text", "LogGroup": "/mine"}
        logged = await api.do(
            "update_function_configuration", FunctionName="f", LoggingConfig=plain
        )
        assert logged["LoggingConfig"] == plain


REFUSED = {
    "runtime": ({"Runtime": "ruby3.3"}, "Member must satisfy enum value set"),
    "an old node": ({"Runtime": "nodejs16.x"}, "nodejs24.x, provided"),
    "no handler": ({"Handler": None}, "Runtime and Handler are mandatory"),
    "half a vpc": (
        {"VpcConfig": {"SubnetIds": ["subnet-1"]}},
        "SubnetIds and SecurityIds must coexist or be both empty list.",
    ),
    "file systems": (
        {
            "FileSystemConfigs": [
                {
                    "Arn": "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/"
                    "fsap-0123456789abcdef0",
                    "LocalMountPath": "/mnt/x",
                }
            ]
        },
        "FileSystemConfigs is not supported by Wherry",
    ),
    "image in a zip": (
        {"Code": {"ImageUri": "a/b:c"}},
        "Please don't provide ImageUri when creating a function with packageType Zip.",
    ),
    "no code": ({"Code": {}}, "Please provide a source for function code."),
    "no object store": (
        {"Code": {"S3Bucket": "bucket", "S3Key": "key"}},
        "no object store is set up here",
    ),
    "snap start of node": (
        {"Runtime": "nodejs22.x", "SnapStart": {"ApplyOn": "PublishedVersions"}},
        "nodejs22.x is not supported for SnapStart enabled functions.",
    ),
    "letters to nowhere": (
        {"DeadLetterConfig": {"TargetArn": "arn:aws:sns:us-east-1:000000000000:t"}},
        "expected that of a queue",
    ),
    "levels of text": (
        {"LoggingConfig": {"LogFormat": "Text", "SystemLogLevel": "WARN"}},
        "can only be set with LogFormat JSON",
    ),
    "a layer that is not": (
        {"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:no:1"]},
        "layer:no:1 does not exist.",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_would_have_no_effect_is_refused_by_name(tmp_path, what):
    bad, said = REFUSED[what]
    request = {name: value for name, value in given(**bad).items() if value is not None}
    async with served(tmp_path, eager=False) as api:
        code, status, answer = await api.refused("create_function", **request)
        assert (code, status) == ("InvalidParameterValueException", 400)
        assert said in answer["Error"]["Message"]
        assert (await api.do("list_functions"))["Functions"] == []


async def test_files_of_function_and_layers_count_together(tmp_path, monkeypatch):
    monkeypatch.setattr("faas.code.origin.MAX_UNZIPPED", 3000)
    monkeypatch.setattr("faas.functions.layers.MAX_UNZIPPED", 3000)
    async with served(tmp_path, eager=False) as api:
        layer = await api.do(
            "publish_layer_version",
            LayerName="l",
            Content={"ZipFile": zipped({"python/dep.py": "#" * 2000})},
        )
        fitting = given(Layers=[layer["LayerVersionArn"]])
        await api.do("create_function", **fitting)
        for operation, more in (
            ("create_function", fitting | {"FunctionName": "g", "Code": large()}),
            ("update_function_code", {"FunctionName": "f"} | large()),
        ):
            code, _, said = await api.refused(operation, **more)
            assert code == "InvalidParameterValueException"
            assert "combined with layers exceeds the maximum" in said["Error"]["Message"]


def large():
    return {"ZipFile": zipped("#" * 2000)}


async def test_variables_of_another_key_lock_one_function_alone(tmp_path):
    store = MemoryStore()
    secret = {"Environment": {"Variables": {"PASSWORD": "x"}}}
    async with served(tmp_path, store=store) as api:
        await api.do("create_function", **given(**secret))
        await api.do("create_function", **given(FunctionName="g"))
        await api.active("f")
        await api.active("g")
    (tmp_path / "vault.key").unlink()
    async with served(tmp_path, store=store) as api:
        assert (await api.call("g"))[0][0] == "one"
        code, status, said = await api.refused("invoke", FunctionName="f")
        assert (code, status) == ("KMSAccessDeniedException", 502)
        assert ARN in said["Error"]["Message"]
        shown = await api.do("get_function_configuration", FunctionName="f")
        assert "vault does not have the key" in shown["Environment"]["Error"]["Message"]
        await api.do("update_function_configuration", FunctionName="f", **secret)
        await api.updated("f")
        assert (await api.call("f"))[0][0] == "one"


async def test_versions_and_aliases_outlive_the_process(tmp_path):
    store = MemoryStore()
    async with served(tmp_path, store=store) as api:
        await two_versions(api)
        await api.do("create_alias", FunctionName="f", Name="live", FunctionVersion="1")
    async with served(tmp_path, store=store) as api:
        assert (await api.call("f:live"))[0][:2] == ["one", "1"]
        assert (await api.call("f"))[0][0] == "two"


async def test_an_event_for_an_alias_runs_what_it_points_at_by_then(tmp_path):
    async with served(tmp_path) as api:
        await two_versions(api)
        await api.do("create_alias", FunctionName="f", Name="live", FunctionVersion="2")
        accepted = await api.do(
            "invoke", FunctionName="f:live", InvocationType="Event", Payload=b"{}"
        )
        assert accepted["StatusCode"] == 202

        def ran():
            lines = api.faas.functions.log("f", after=0)
            return any("Version: 2" in line.text for line in lines)

        await until(ran)


@pytest.fixture
async def bucket():
    """Serve one object as S3 does, unsigned."""
    body = who("from s3")

    async def answer(request):
        if request.path == "/bucket/large.zip":
            response = web.StreamResponse(headers={"Content-Length": str(60 << 20)})
            await response.prepare(request)
            return response
        if request.path != "/bucket/code.zip":
            error = "<Error><Code>NoSuchKey</Code><Message>No such key.</Message></Error>"
            return web.Response(status=404, text=error, content_type="application/xml")
        return web.Response(body=body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    sock = listening("bucket", Address())
    await web.SockSite(runner, sock).start()
    try:
        yield bound(sock).url
    finally:
        await runner.cleanup()
        sock.close()


async def test_code_comes_from_an_object_store(tmp_path, bucket):
    async with served(tmp_path, s3_endpoint=bucket) as api:
        code = {"S3Bucket": "bucket", "S3Key": "code.zip"}
        await api.do("create_function", **given(Code=code))
        await api.active("f")
        assert (await api.call("f"))[0][0] == "from s3"
        missing = {"S3Bucket": "bucket", "S3Key": "other.zip"}
        _, _, said = await api.refused("update_function_code", FunctionName="f", **missing)
        assert said["Error"]["Message"] == (
            "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: "
            "No such key."
        )
        large = {"S3Bucket": "bucket", "S3Key": "large.zip"}
        _, _, said = await api.refused("update_function_code", FunctionName="f", **large)
        assert "Zipped size must be smaller than" in said["Error"]["Message"]


async def test_a_broken_handler_of_a_snap_start_version_fails_when_it_is_published(tmp_path):
    async with served(tmp_path) as api:
        broken = {"Code": {"ZipFile": zipped("import nothing_of_that_name\n")}}
        snap = {"SnapStart": {"ApplyOn": "PublishedVersions"}}
        await api.do("create_function", **given(**broken, **snap))
        await api.active("f")
        await api.do("publish_version", FunctionName="f")
        async with asyncio.timeout(20):
            while True:
                found = await api.do("get_function_configuration", FunctionName="f", Qualifier="1")
                if found["State"] != "Pending":
                    break
                await asyncio.sleep(0.05)
        assert (found["State"], found["StateReasonCode"]) == ("Failed", "FunctionError")
        assert "nothing_of_that_name" in json.dumps(found["StateReason"])


async def test_promised_concurrency_outlives_the_process(tmp_path):
    told = "import os\ndef handler(event, context):\n"
    told += "    return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\n"
    store = MemoryStore()
    version = {"FunctionName": "f", "Qualifier": "1"}

    async def ready(api):
        async with asyncio.timeout(30):
            while True:
                found = await api.do("get_provisioned_concurrency_config", **version)
                if found["Status"] == "READY":
                    return
                await asyncio.sleep(0.05)

    async with served(tmp_path, store=store, eager=False) as api:
        await api.made("f", told, Publish=True)
        await api.do(
            "put_provisioned_concurrency_config", **version, ProvisionedConcurrentExecutions=1
        )
        await api.made("g", told)
        await api.do("put_function_concurrency", FunctionName="g", ReservedConcurrentExecutions=0)
        await ready(api)
        assert (await api.call("f", Qualifier="1"))[0] == "provisioned-concurrency"
    async with served(tmp_path, store=store, eager=False) as api:
        await ready(api)
        assert (await api.call("f", Qualifier="1"))[0] == "provisioned-concurrency"
        code, status, _ = await api.refused("invoke", FunctionName="g")
        assert (code, status) == ("TooManyRequestsException", 429)


async def test_a_function_that_is_deleted_while_it_starts_leaves_nothing(tmp_path):
    slow = "import time\ntime.sleep(2)\ndef handler(event, context): pass\n"
    async with served(tmp_path) as api:
        await api.do("create_function", **given(Code={"ZipFile": zipped(slow)}))
        await until(lambda: api.faas.functions.health()["pools"])
        await api.do("delete_function", FunctionName="f")
        await until(lambda: not api.faas.functions.health()["pools"])
        code, _, _ = await api.refused("get_function", FunctionName="f")
        assert code == "ResourceNotFoundException"
        created = await api.do("create_function", **given())
        assert created["Version"] == "$LATEST"
        await api.active("f")
        assert (await api.call("f"))[0][0] == "one"


async def test_what_an_alias_is_promised_moves_with_it(tmp_path):
    async with served(tmp_path, eager=False) as api:
        await api.do("create_function", **given(Publish=True))
        await api.do("update_function_code", FunctionName="f", ZipFile=who("two"), Publish=True)
        await api.do("create_alias", FunctionName="f", Name="live", FunctionVersion="1")
        await api.do(
            "put_provisioned_concurrency_config",
            FunctionName="f",
            Qualifier="live",
            ProvisionedConcurrentExecutions=1,
        )
        provisioned = api.faas.functions.provisioned
        await until(lambda: provisioned("f", "1") == (1, 1))
        await api.do("update_alias", FunctionName="f", Name="live", FunctionVersion="2")
        await until(lambda: provisioned("f", "2") == (1, 1))
        assert provisioned("f", "1")[1] == 0
        await api.do("delete_alias", FunctionName="f", Name="live")
        await until(lambda: provisioned("f", "2")[1] == 0)
