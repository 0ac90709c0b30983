"""Layers through boto3."""

import json

import aiohttp
import pytest
from botocore.exceptions import ClientError
from support.lambda_api import served
from support.lambda_records import ACCOUNT, UNKNOWN, recorded, zipped

from faas.functions.layers import Layers
from faas.place import Place
from wherry.clock import SystemClock


@pytest.fixture
async def place(tmp_path):
    async with recorded(tmp_path) as api:
        yield api


async def test_layer_versions_count_up_and_a_number_is_never_given_twice(place):
    for number in (1, 2):
        found = await place(
            "publish_layer_version", LayerName="l", Content={"ZipFile": zipped(a="1")}
        )
        assert found["Version"] == number
        assert found["LayerVersionArn"] == f"{ACCOUNT}:layer:l:{number}"
    await place("delete_layer_version", LayerName="l", VersionNumber=2)
    await place("delete_layer_version", LayerName="l", VersionNumber=2)
    found = await place("publish_layer_version", LayerName="l", Content={"ZipFile": zipped(a="1")})
    assert found["Version"] == 3
    listed = await place("list_layer_versions", LayerName="l")
    assert [one["Version"] for one in listed["LayerVersions"]] == [3, 1]


async def test_a_layer_is_found_by_name_by_arn_and_by_the_arn_of_its_version(place):
    sent = {"CompatibleRuntimes": ["python3.11"], "LicenseInfo": "MIT", "Description": "d"}
    made = await place(
        "publish_layer_version", LayerName="l", Content={"ZipFile": zipped(a="1")}, **sent
    )
    for found in (
        await place("get_layer_version", LayerName="l", VersionNumber=1),
        await place("get_layer_version", LayerName=made["LayerArn"], VersionNumber=1),
        await place("get_layer_version_by_arn", Arn=made["LayerVersionArn"]),
    ):
        assert {name: found[name] for name in sent} == sent
        assert found["Content"] == made["Content"]
    assert await place.refused("get_layer_version", LayerName="l", VersionNumber=9) == (
        "ResourceNotFoundException",
        "The resource you requested does not exist.",
    )
    other = "arn:aws:lambda:us-east-1:999999999999:layer:l:1"
    refused = await place.refused("get_layer_version_by_arn", Arn=other)
    assert refused[0] == "AccessDeniedException"


async def test_layers_are_listed_in_pages_by_what_they_are_for(place):
    for name, runtime in (("a", "python3.11"), ("b", "nodejs20.x"), ("c", "python3.11")):
        await place(
            "publish_layer_version",
            LayerName=name,
            Content={"ZipFile": zipped(a=name)},
            CompatibleRuntimes=[runtime],
            CompatibleArchitectures=["x86_64"],
        )
    python = await place("list_layers", CompatibleRuntime="python3.11")
    assert [one["LayerName"] for one in python["Layers"]] == ["a", "c"]
    assert python["Layers"][0]["LatestMatchingVersion"]["Version"] == 1
    assert (await place("list_layers", CompatibleArchitecture="arm64"))["Layers"] == []
    first = await place("list_layers", MaxItems=2)
    assert [one["LayerName"] for one in first["Layers"]] == ["a", "b"]
    rest = await place("list_layers", MaxItems=2, Marker=first["NextMarker"])
    assert [one["LayerName"] for one in rest["Layers"]] == ["c"]
    assert "NextMarker" not in rest
    assert (await place.refused("list_layers", Marker="?"))[0] == "InvalidParameterValueException"


async def test_a_layer_without_content_and_one_that_is_no_zip_are_refused(place):
    code, text = await place.refused("publish_layer_version", LayerName="l", Content={})
    assert (code, text) == ("InvalidParameterValueException", "Missing Content")
    for content in ({"ZipFile": b"no zip"}, {"S3Bucket": "one", "S3Key": "key"}):
        code, _ = await place.refused("publish_layer_version", LayerName="l", Content=content)
        assert code == "InvalidParameterValueException"
    assert (await place("list_layers"))["Layers"] == []


async def test_functions_use_layers_that_are_there_and_no_others(place, tmp_path):
    layers = Layers(place.registry.store, place.registry.code_dir, Place(), SystemClock())
    arns = []
    for name in "abcdef":
        made = await place(
            "publish_layer_version", LayerName=name, Content={"ZipFile": zipped(a=name)}
        )
        arns.append(made["LayerVersionArn"])
    used = await layers.use(arns[:2])
    assert [one.arn for one in used] == arns[:2]
    second = await place("publish_layer_version", LayerName="a", Content={"ZipFile": zipped(b="1")})
    await place("delete_layer_version", LayerName="b", VersionNumber=1)
    for wanted, message in (
        (arns, "Cannot reference more than 5 layers."),
        ([arns[1]], f"Layer version {arns[1]} does not exist."),
        ([arns[0], second["LayerVersionArn"]], "Two different versions of the same layer"),
        ([f"{ACCOUNT}:layer:a"], "does not exist"),
    ):
        with pytest.raises(Exception, match=message):
            await layers.use(wanted)
    with pytest.raises(Exception, match="exceeds the maximum allowed size of 262144000 bytes"):
        await layers.use(arns[:1], unzipped=262_144_000)


async def test_a_layers_policy_is_kept_with_its_version(place):
    await place("publish_layer_version", LayerName="l", Content={"ZipFile": zipped(a="1")})
    about = {"LayerName": "l", "VersionNumber": 1}
    refused = await place.refused("get_layer_version_policy", **about)
    assert refused[0] == "ResourceNotFoundException"
    permission = {"Action": "lambda:GetLayerVersion", "Principal": "*"}
    added = await place(
        "add_layer_version_permission",
        **about,
        **permission,
        StatementId="all",
        OrganizationId="o-a1b2c3d4e5",
    )
    assert json.loads(added["Statement"]) == {
        "Sid": "all",
        "Effect": "Allow",
        "Principal": "*",
        "Action": "lambda:GetLayerVersion",
        "Resource": f"{ACCOUNT}:layer:l:1",
        "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-a1b2c3d4e5"}},
    }
    again = {**about, **permission, "StatementId": "all"}
    refused = await place.refused("add_layer_version_permission", **again)
    assert refused[0] == "ResourceConflictException"
    code, _ = await place.refused(
        "add_layer_version_permission", **about, **permission, StatementId="b", RevisionId=UNKNOWN
    )
    assert code == "PreconditionFailedException"
    policy = await place("get_layer_version_policy", **about)
    assert policy["RevisionId"] == added["RevisionId"]
    await place("remove_layer_version_permission", **about, StatementId="all")
    refused = await place.refused("get_layer_version_policy", **about)
    assert refused[0] == "ResourceNotFoundException"
    nowhere = {"LayerName": "l", "VersionNumber": 7}
    assert await place.refused("get_layer_version_policy", **nowhere) == (
        "ResourceNotFoundException",
        f"Layer version {ACCOUNT}:layer:l:7 does not exist.",
    )


@pytest.mark.e2e
async def test_a_function_keeps_a_layer_that_is_deleted_and_no_other_gets_it(tmp_path):
    content = zipped(python__shared="VALUE = 42")
    source = "import shared\ndef handler(event, context):\n    return shared.VALUE\n"
    async with served(tmp_path) as api:
        made = await api.do("publish_layer_version", LayerName="l", Content={"ZipFile": content})
        layers = [made["LayerVersionArn"]]
        async with (
            aiohttp.ClientSession() as session,
            session.get(made["Content"]["Location"]) as answer,
        ):
            assert await answer.read() == content
        await api.made("f", source, Layers=layers)
        assert (await api.call("f"))[0] == 42
        await api.do("delete_layer_version", LayerName="l", VersionNumber=1)
        assert (await api.call("f"))[0] == 42
        with pytest.raises(ClientError, match="layer:l:1 does not exist"):
            await api.made("g", source, Layers=layers)
