"""The whole house with credentials: whoever signs gets in, nobody else, and nothing breaks."""

import asyncio
import json

import aiohttp
import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from support.house import house, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FILE = """
[default]
aws_access_key_id = AKIDHOUSE
aws_secret_access_key = a/secret+of=ours
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signed")
    (folder / "state").mkdir()
    (folder / "state/credentials").write_text(FILE)
    (folder / "state/credentials").chmod(0o600)
    with house(folder, "--backend", "process") as running:
        yield running


@pytest.fixture(autouse=True)
def no_keys_of_ours(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def lambda_client(mesh, **given):
    return boto3.client(
        "lambda",
        endpoint_url=mesh.addresses["lambda"],
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}).merge(given.pop("config", Config())),
        **given,
    )


async def fetched(url, **given):
    async with aiohttp.ClientSession() as session, session.get(url, **given) as answer:
        return answer.status, await answer.text()


async def test_the_gateway_signs_its_calls_of_functions(mesh):
    url, headers = mesh.addresses["gateway"] + "/guestbook/entries", {"x-api-key": mesh.key("bob")}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, json={"text": "signed, ü"}) as answer,
    ):
        assert answer.status == 201, await answer.text()
    status, text = await fetched(url, headers=headers)
    assert status == 200
    assert "signed, ü" in [each["text"] for each in json.loads(text)["entries"]]


async def test_the_commands_sign_with_the_houses_own_key(mesh, tmp_path):
    (tmp_path / "app.py").write_text("def handler(e, c):\n    print('seen')\n    return e\n")
    said = await asyncio.to_thread(mesh.wherry, "fn", "deploy", str(tmp_path), "--name", "own")
    assert "own" in said
    invoke = ("fn", "invoke", "own", '{"a": "ü"}')
    assert json.loads(await asyncio.to_thread(mesh.wherry, *invoke)) == {"a": "ü"}
    assert "seen" in await asyncio.to_thread(mesh.wherry, "fn", "logs", "own")
    assert "own" in await asyncio.to_thread(mesh.wherry, "fn", "ls")
    await asyncio.to_thread(mesh.wherry, "fn", "delete", "own")
    assert "own" not in await asyncio.to_thread(mesh.wherry, "fn", "ls")


async def test_a_command_with_another_key_says_so_in_one_line(mesh, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOTHER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    done = await asyncio.to_thread(run, "wherry", "fn", "ls", state=mesh.state, check=False)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "security token" in done.stderr


async def test_who_does_not_sign_is_refused(mesh):
    with pytest.raises(ClientError) as refused:
        await asyncio.to_thread(
            lambda_client(mesh, config=Config(signature_version=UNSIGNED)).list_functions
        )
    said = refused.value.response
    assert said["Error"]["Code"] == "MissingAuthenticationTokenException"
    assert said["ResponseMetadata"]["HTTPStatusCode"] == 403
    keys = {"aws_access_key_id": "AKIDHOUSE", "aws_secret_access_key": "a/secret+of=ours"}
    found = await asyncio.to_thread(lambda_client(mesh, **keys).list_functions)
    assert found["Functions"]


async def test_health_and_metrics_are_open_and_logs_are_not(mesh):
    url = mesh.addresses["lambda"]
    assert (await fetched(url + "/healthz"))[0] == 200
    status, text = await fetched(url + "/metrics")
    assert status == 200
    assert "wherry" in text
    keys = {"aws_access_key_id": "AKIDHOUSE", "aws_secret_access_key": "a/secret+of=ours"}
    found = await asyncio.to_thread(lambda_client(mesh, **keys).list_functions)
    name = found["Functions"][0]["FunctionName"]
    status, text = await fetched(f"{url}/wherry/functions/{name}/logs")
    assert status == 403
    assert "Missing Authentication Token" in text
