"""Real signers against the API: boto3, the aws command and presigned requests."""

import asyncio
import io
import json
import os
import shutil
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from aiohttp import ClientSession, web
from botocore import UNSIGNED
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials
from botocore.exceptions import ClientError

from faas.api.asked import Answered
from faas.api.credentials import Credentials
from faas.api.server import Service, Signatures, application
from faas.api.services import service
from faas.api.sigv4 import Sent, canonical_request
from faas.lambda_errors import ResourceNotFound
from wherry.clock import SystemClock
from wherry.serve import Address, bound, listening

pytestmark = pytest.mark.e2e

FILE = """
[ann]
aws_access_key_id = AKIDANN
aws_secret_access_key = a/secret+of=hers
[session]
aws_access_key_id = ASIATOM
aws_secret_access_key = another
aws_session_token = the-token
"""
ANN = {"aws_access_key_id": "AKIDANN", "aws_secret_access_key": "a/secret+of=hers"}
TOM = {"aws_access_key_id": "ASIATOM", "aws_secret_access_key": "another"}


class Ahead(SystemClock):
    """A clock that is ahead by some seconds."""

    def __init__(self, seconds):
        self._seconds = seconds

    def unix_ns(self):
        return super().unix_ns() + int(self._seconds * 1e9)


async def listed(asked):
    """ListFunctions: one function that is named for whoever asks."""
    return Answered({"Functions": [{"FunctionName": "a", "Description": asked.caller}]})


async def invoked(asked):
    """Invoke: the payload comes back."""
    return Answered({"StatusCode": 200, "Payload": asked["Payload"], "ExecutedVersion": "7"})


async def missing(asked):
    raise ResourceNotFound(f"Function not found: {asked['FunctionName']}")


async def queues(asked):
    return Answered({"QueueUrls": [f"{asked.base_url}/{asked.get('QueueNamePrefix', '')}"]})


OPERATIONS = {"ListFunctions": listed, "Invoke": invoked, "GetFunction": missing}


@asynccontextmanager
async def served(text=FILE, *, ahead=0.0):
    """Serve the API; without a text signatures are not checked."""
    keys = None if text is None else Credentials.parse(text, "credentials", "000000000000")
    sock = listening("lambda", Address())
    app = application(
        OPERATIONS,
        signatures=Signatures(keys, "us-east-1", Ahead(ahead)),
        address=bound(sock),
        services=[Service(service("sqs"), {"ListQueues": queues})],
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, sock).start()
        yield bound(sock).url
    finally:
        await runner.cleanup()


async def asked(url, operation, *, name="lambda", region="us-east-1", config=None, **given):
    arguments = given.pop("arguments", {})
    client = boto3.client(
        name,
        endpoint_url=url,
        region_name=region,
        config=Config(retries={"total_max_attempts": 1}).merge(config or Config()),
        **given,
    )
    try:
        return await asyncio.to_thread(getattr(client, operation), **arguments)
    finally:
        client.close()


async def refused(*args, **kwargs):
    with pytest.raises(ClientError) as found:
        await asked(*args, **kwargs)
    said = found.value.response
    return said["Error"]["Code"], said["ResponseMetadata"]["HTTPStatusCode"]


async def test_boto3_is_known_by_its_key():
    async with served() as url:
        found = await asked(url, "list_functions", **ANN)
        assert found["Functions"][0]["Description"] == "arn:aws:iam::000000000000:user/ann"
        found = await asked(url, "list_functions", **TOM, aws_session_token="the-token")  # noqa: S106
        assert found["Functions"][0]["Description"] == "arn:aws:iam::000000000000:user/session"


async def test_bodies_and_odd_names_are_signed_too():
    async with served() as url:
        payload = json.dumps("ü" * 400_000).encode()
        arguments = {
            "FunctionName": "arn:aws:lambda:us-east-1:000000000000:function:a:$LATEST",
            "Qualifier": "$LATEST",
            "Payload": payload,
            "ClientContext": "e30=",
        }
        found = await asked(url, "invoke", **ANN, arguments=arguments)
        assert found["Payload"].read() == payload
        assert found["ExecutedVersion"] == "7"


async def test_another_services_requests_are_signed_for_it():
    async with served() as url:
        found = await asked(
            url, "list_queues", name="sqs", **ANN, arguments={"QueueNamePrefix": "q"}
        )
        assert found["QueueUrls"] == [f"{url}/q"]
        assert await refused(
            url, "purge_queue", name="sqs", **ANN, arguments={"QueueUrl": "q"}
        ) == (
            "NotImplementedException",
            501,
        )


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({**ANN, "aws_secret_access_key": "wrong"}, "InvalidSignatureException"),
        ({**ANN, "aws_access_key_id": "NOBODY"}, "UnrecognizedClientException"),
        (TOM, "UnrecognizedClientException"),
        ({**ANN, "region": "eu-west-1"}, "InvalidSignatureException"),
        ({"config": Config(signature_version=UNSIGNED)}, "MissingAuthenticationTokenException"),
    ],
)
async def test_whoever_is_not_in_the_file_is_refused(given, code):
    async with served() as url:
        assert await refused(url, "list_functions", **given) == (code, 403)


@pytest.mark.parametrize("seconds", [600.0, -600.0])
async def test_a_signature_of_another_time_is_refused(seconds):
    async with served(ahead=seconds) as url:
        code = await refused(url, "list_functions", **ANN)
        assert code == ("InvalidSignatureException", 403)


async def test_without_a_file_anybody_may_ask():
    async with served(None) as url:
        found = await asked(url, "list_functions", config=Config(signature_version=UNSIGNED))
        assert "Description" in found["Functions"][0]
        assert (await asked(url, "list_functions", **ANN))["Functions"][0]["Description"] == ""


async def test_a_presigned_request_needs_no_header():
    async with served() as url, ClientSession() as session:
        request = AWSRequest("GET", f"{url}/2015-03-31/functions/?MaxItems=3")
        credentials = BotoCredentials(*ANN.values())
        SigV4QueryAuth(credentials, "lambda", "us-east-1", expires=60).add_auth(request)
        async with session.get(request.prepare().url) as answer:
            assert answer.status == 200
        async with session.get(request.prepare().url + "&Marker=x") as answer:
            assert answer.status == 403
            assert answer.headers["x-amzn-ErrorType"] == "InvalidSignatureException"
            assert answer.headers["x-amzn-RequestId"]


async def test_who_is_refused_sends_no_large_body():
    async with served() as url, ClientSession() as session:
        path = "/2015-03-31/functions"
        async with session.post(url + path, data=b"x" * 1000) as answer:
            assert answer.status == 403
            assert (await answer.json())["Message"] == "Missing Authentication Token"


async def test_bad_requests_are_told_apart():
    async with served(None) as url, ClientSession() as session:
        functions = f"{url}/2015-03-31/functions"
        for method, to, headers, status, code in [
            ("GET", f"{url}/nope", {}, 404, "UnknownOperationException"),
            ("GET", f"{functions}/a/policy", {}, 501, "NotImplementedException"),
            ("GET", f"{functions}?MaxItems=x", {}, 400, "SerializationException"),
            ("GET", f"{functions}?MaxItems=0", {}, 400, "ValidationException"),
            ("GET", f"{functions}/a", {}, 404, "ResourceNotFoundException"),
            ("GET", functions, {"Origin": "http://page.example"}, 403, "AccessDeniedException"),
            ("GET", functions, {"Content-Encoding": "gzip"}, 415, "UnsupportedMediaTypeException"),
        ]:
            async with session.request(method, to, headers=headers) as answer:
                assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (status, code), to
                assert (await answer.json())["Type"] == "User"
        async with session.get(functions, headers={"Host": "page.example"}) as answer:
            assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (
                403,
                "AccessDeniedException",
            )
            assert "page.example" in (await answer.json())["Message"]


async def test_a_body_over_the_limit_is_refused():
    async with served(None) as url, ClientSession() as session:
        to = f"{url}/2015-03-31/functions/a/invocations"
        async with session.post(to, data=io.BytesIO(b"1" * (6 * (1 << 20) + 1))) as answer:
            assert answer.status == 413
            assert answer.headers["x-amzn-ErrorType"] == "RequestEntityTooLargeException"
            assert "6291456 bytes for the InvokeFunction operation" in await answer.text()


async def test_a_caller_who_hangs_up_within_a_body_is_no_failure(caplog):
    async with served(None) as url:
        host, port = url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /2015-03-31/functions/a/invocations HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 1000\r\n\r\nhalf"
        )
        await writer.drain()
        assert (await asked(url, "list_functions", **ANN))["Functions"]
        writer.close()
        await writer.wait_closed()
        assert (await asked(url, "list_functions", **ANN))["Functions"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /2015-03-31/functions/%ff%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /2015-03-31/functions/?MaxItems=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET //2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://other/2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: .\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: AmazonSQS.Nope\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: AmazonSQS.ListQueues\r\n"
        b"Content-Length: 1\r\n\r\n[",
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_odd_requests_are_answered_and_nothing_fails(head, caplog):
    async with served(None) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head)
        async with asyncio.timeout(10):
            line = await reader.readline()
        writer.close()
        await writer.wait_closed()
    assert 200 <= int(line.split()[1]) < 500
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_the_aws_command_is_served(tmp_path):
    if shutil.which("aws", path=Path(sys.executable).parent) is None:
        pytest.skip("the aws command is not installed")
    config = tmp_path / "credentials"
    config.write_text(FILE)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_SHARED_CREDENTIALS_FILE": str(config),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_PAGER": "",
    }
    async with served() as url:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).parent / "aws",
            *("--endpoint-url", url, "--profile", "ann", "lambda", "list-functions"),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, problem = await process.communicate()
    assert process.returncode == 0, problem.decode()
    assert json.loads(said)["Functions"][0]["Description"].endswith("user/ann")


ODD_SIGNATURES = {
    "a signature of no text": (b"SignedHeaders=host;x-amz-date, Signature=\xff\xfe", b""),
    "a token of no text": (b"SignedHeaders=host, Signature=a", b"X-Amz-Security-Token: \xff\r\n"),
    "a header of no text": (
        b"SignedHeaders=host;x-amz-date;x-odd, Signature=a",
        b"X-Odd: \xff\r\n",
    ),
    "a name of no text": (b"SignedHeaders=host;x-amz-date;\xff, Signature=a", b""),
}


@pytest.mark.parametrize("what", ODD_SIGNATURES)
@pytest.mark.parametrize(
    "path",
    [
        b"/2015-03-31/functions/",
        b"/2015-03-31/functions/?%ff=%fe&a",
        b"/2015-03-31/functions/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=CREDENTIAL"
        b"&X-Amz-SignedHeaders=host&X-Amz-Signature=%ff&X-Amz-Date=STAMP"
        b"&X-Amz-Expires=0000000009999999999999999",
    ],
)
async def test_signatures_of_odd_bytes_are_refused(what, path):
    parts, more = ODD_SIGNATURES[what]
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ").encode()
    credential = b"AKIDANN/%s/us-east-1/lambda/aws4_request" % stamp[:8]
    signed = b"Authorization: AWS4-HMAC-SHA256 Credential=%s, %s\r\nX-Amz-Date: %s\r\n%s" % (
        credential,
        parts,
        stamp,
        more,
    )
    async with served() as url:
        host, port = url.removeprefix("http://").split(":")
        for headers in (signed, b""):
            to = path.replace(b"CREDENTIAL", credential).replace(b"STAMP", stamp)
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n" % (to, headers)
            )
            await writer.drain()
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            assert answer.startswith(b"HTTP/1.1 403"), answer


def test_what_is_signed_is_the_very_bytes_of_a_request():
    sent = Sent("GET", "/a\udcff", "b=%ff&c=\udcfe", {"host": "h"})
    said = canonical_request(sent, ("host",), "x").splitlines()
    assert said[1:3] == ["/a%FF", "b=%FF&c=%FE"]
