"""What the control side of functions promises to whoever may call the API, and to nobody else."""

import json
import shutil

import aiohttp
import pytest
from support.lambda_api import ROLE, served, zipped

from faas.code.package import unpacked
from faas.events import lineage
from faas.functions.declared import Declared
from faas.model.function import Reference, State
from wherry.store.memory import MemoryStore

pytestmark = pytest.mark.e2e

GROUPS = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1", "sg-2"]}
KEYS = """[ann]
aws_access_key_id = wherry
aws_secret_access_key = wherry
"""
WHO = """
import os
def handler(event, context):
    return [os.environ["_X_AMZN_TRACE_ID"], os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]]
"""


def given(**more):
    return {
        "FunctionName": "f",
        "Role": ROLE,
        "Runtime": "python3.11",
        "Handler": "app.handler",
        "Code": {"ZipFile": zipped(WHO)},
    } | more


async def posted(api, path, body, **headers):
    async with (
        aiohttp.ClientSession() as session,
        session.post(api.url + path, data=body, headers=headers) as answer,
    ):
        return answer.status, answer.headers.get("x-amzn-ErrorType"), await answer.text()


async def test_callers_who_sign_may_not_name_files_of_the_server(tmp_path):
    (tmp_path / "credentials").write_text(KEYS)
    secret = tmp_path / "image.tar"
    secret.write_text("not for callers")
    async with served(tmp_path, eager=False, credentials=tmp_path / "credentials") as api:
        for uri in (str(secret), f"oci-archive:{secret}", f"docker-archive:{secret}:x", "./x"):
            code, status, answer = await api.refused(
                "create_function",
                FunctionName="f",
                Role=ROLE,
                PackageType="Image",
                Code={"ImageUri": uri},
            )
            assert (code, status) == ("InvalidParameterValueException", 400)
            assert "may not name files of the server" in answer["Error"]["Message"]
            assert "not for callers" not in answer["Error"]["Message"]


async def test_while_nobody_signs_a_path_is_an_image(tmp_path):
    (tmp_path / "image.tar").write_text("no image")
    async with served(tmp_path, eager=False) as api:
        for uri in (str(tmp_path / "image.tar"), "a" * 5000, "/" + "a/" * 3000):
            code, _, answer = await api.refused(
                "create_function",
                FunctionName="f",
                Role=ROLE,
                PackageType="Image",
                Code={"ImageUri": uri},
            )
            assert code == "InvalidParameterValueException"
            assert "may not name files" not in answer["Error"]["Message"]


async def test_half_a_surrogate_pair_is_no_text_and_nan_no_number(tmp_path):
    async with served(tmp_path, eager=False) as api:
        await api.do("create_function", **given())
        path = "/2015-03-31/functions/f/configuration"
        for body in (rb'{"Description": "\ud800"}', b'{"Description": "\xed\xa0\x80"}'):
            async with (
                aiohttp.ClientSession() as session,
                session.put(api.url + path, data=body) as answer,
            ):
                assert answer.status == 400
                assert answer.headers["x-amzn-ErrorType"] == "SerializationException"
        await api.do("update_function_configuration", FunctionName="f", Description="a 😀 pair")
        about = await api.do("get_function_configuration", FunctionName="f")
        assert about["Description"] == "a 😀 pair"
        invoke = "/2015-03-31/functions/f/invocations"
        for body in (b"NaN", '"x"'.encode("utf-16"), b'"\xff"'):
            status, code, _ = await posted(api, invoke, body)
            assert (status, code) == (400, "InvalidRequestContentException")


async def test_a_vpc_is_kept_and_shown_and_the_log_says_that_it_has_no_effect(tmp_path):
    async with served(tmp_path, eager=False) as api:
        shown = {**GROUPS, "VpcId": "", "Ipv6AllowedForDualStack": False}
        made = await api.do("create_function", **given(VpcConfig=GROUPS))
        assert made["VpcConfig"] == shown
        about = await api.do("get_function_configuration", FunctionName="f")
        assert about["VpcConfig"] == shown
        lines = [line.text for line in api.faas.functions.log("f", after=0)]
        assert any("VpcConfig has no effect" in line and "mesh" in line for line in lines)
        changed = await api.do(
            "update_function_configuration",
            FunctionName="f",
            VpcConfig={"Ipv6AllowedForDualStack": True},
        )
        assert changed["VpcConfig"] == shown | {"Ipv6AllowedForDualStack": True}
        empty = {"SubnetIds": [], "SecurityGroupIds": []}
        gone = await api.do("update_function_configuration", FunctionName="f", VpcConfig=empty)
        assert "VpcConfig" not in gone


async def test_a_circle_of_synchronous_calls_is_cut_unless_the_function_may_go_on(tmp_path):
    async with served(tmp_path, eager=False) as api:
        await api.do("create_function", **given())
        path = "/2015-03-31/functions/f/invocations"
        trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
        for runs in range(1, lineage.LIMIT + 1):
            status, _, body = await posted(api, path, b"{}", **{"X-Amzn-Trace-Id": trace})
            assert status == 200
            trace = json.loads(body)[0]
            assert trace.startswith("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=")
            assert trace.endswith(f":{runs}")
        stream = "/2021-11-15/functions/f/response-streaming-invocations"
        for each in (path, stream):
            status, code, _ = await posted(api, each, b"{}", **{"X-Amzn-Trace-Id": trace})
            assert (status, code) == (400, "RecursiveInvocationException")
        await api.do("put_function_recursion_config", FunctionName="f", RecursiveLoop="Allow")
        status, _, _ = await posted(api, path, b"{}", **{"X-Amzn-Trace-Id": trace})
        assert status == 200
        status, _, body = await posted(api, path, b"{}")
        assert "Lineage" not in json.loads(body)[0]


async def test_an_event_keeps_the_trace_of_a_caller_who_sends_traceparent_only():
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    header, runs = lineage.counted(caller, "f", event="e")
    assert runs == 1
    assert header.startswith("Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;")


async def test_declared_instances_are_ready_for_whoever_calls_the_plain_name(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f/app.py").write_text(WHO)
    async with served(tmp_path) as api:
        await api.do("create_function", **given(FunctionName="other", Publish=True))
        await api.active("other")
        await api.do("create_alias", FunctionName="other", Name="live", FunctionVersion="1")
        for name, count in (("f", 2), ("f", 1), ("f", None), ("other", None)):
            declared = Declared(name, tmp_path / "f", provisioned=count)
            await api.faas.deploy_directory(declared)
            assert api.faas.functions.provisioned(name, "$LATEST")[1] == (count or 0)
            if count:
                _, _, answer = await api.call("f", {})
                headers = answer["ResponseMetadata"]["HTTPHeaders"]
                assert headers["x-wherry-start"] != "cold"
        versions = (await api.do("list_versions_by_function", FunctionName="f"))["Versions"]
        assert [each["Version"] for each in versions] == ["$LATEST"]
        kept = await api.do("get_alias", FunctionName="other", Name="live")
        assert kept["FunctionVersion"] == "1"


async def test_whatever_a_killed_process_left_half_written_the_next_one_starts_and_says_so(
    tmp_path,
):
    store = MemoryStore()
    async with served(tmp_path, store=store) as api:
        await api.do("create_function", **given(Publish=True))
        await api.active("f")
        await api.do("create_alias", FunctionName="f", Name="live", FunctionVersion="1")
        await api.do(
            "put_provisioned_concurrency_config",
            FunctionName="f",
            Qualifier="live",
            ProvisionedConcurrentExecutions=1,
        )
        await api.do("create_function", **given(FunctionName="g", Code={"ZipFile": zipped("# g")}))
    # a version numbered and not written, an alias and a promise of it, a function without code
    await store.delete("function-version/f/0000000001")
    digest = unpacked(zipped("# g"), tmp_path / "code").digest
    shutil.rmtree(tmp_path / "code" / digest)
    record = await store.get("function/g")
    assert record is not None
    text = record.body.replace(b'"Active"', b'"Pending"').replace(b'"Failed"', b'"Pending"')
    await store.put("function/g", text)
    async with served(tmp_path, store=store) as api:
        assert (await api.call("f", {}))[1] is None
        for operation, arguments in (
            ("invoke", {"FunctionName": "f:live"}),
            ("get_function", {"FunctionName": "f", "Qualifier": "live"}),
            ("get_function", {"FunctionName": "f", "Qualifier": "1"}),
        ):
            code, status, _ = await api.refused(operation, **arguments)
            assert (code, status) == ("ResourceNotFoundException", 404)
        kept = await api.do("list_provisioned_concurrency_configs", FunctionName="f")
        assert [each["Status"] for each in kept["ProvisionedConcurrencyConfigs"]] == ["FAILED"]
        version = await api.do("publish_version", FunctionName="f")
        assert version["Version"] == "2"
        await api.do("update_alias", FunctionName="f", Name="live", FunctionVersion="2")
        assert (await api.call("f:live", {}))[1] is None
        about = await api.faas.functions.settled(
            await api.faas.functions.registry.get(Reference("g"))
        )
        assert about.state is State.FAILED
        assert about.reason
        status, code, text = await posted(api, "/2015-03-31/functions/g/invocations", b"{}")
        assert (status, code) == (500, "ServiceException")
        assert "did not start" in text
        await api.do("update_function_code", FunctionName="g", ZipFile=zipped(WHO))
        await api.updated("g")
        assert (await api.call("g", {}))[1] is None
        for name in ("f", "g"):
            await api.do("delete_function", FunctionName=name)
        assert [key for key in await store.list("function") if "count" not in key] == []
