"""Function URLs over HTTP: events, answers, streams, CORS, and who is let in."""

import asyncio
import base64
import io
import json

import pytest
from aiohttp import ClientError, ClientPayloadError, ClientSession, CookieJar
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from support.doors import FILE, KEYS, opened

from faas.urls.answer import BadAnswer, buffered

pytestmark = pytest.mark.e2e

ECHO = "def handler(event, context):\n    return event\n"
SAYS = "import json\ndef handler(event, context):\n    return json.loads(event['body'])\n"
HEADED = """
def handler(event):
    yield {"statusCode": 418, "headers": {"X-Tea": "yes"}, "cookies": ["a=1", "b=2; Secure"]}
    yield event["rawPath"]
    yield "!"
"""
HALF = "def handler(event):\n    yield 'half'\n    raise ValueError('no')\n"
NEVER = "def handler(event):\n    raise ValueError('no')\n    yield\n"
OTHER = "another"
ODD = "def handler(event):\n    yield {'statusCode': 7}\n    yield 'x'\n"
STUCK = "import time\ndef handler(event, context):\n    time.sleep(30)\n"


async def said(session, url, body, **given):
    """Return status, headers and body of what the function says in the request's body."""
    headers = {"Content-Type": "application/json"}
    async with session.post(url, data=json.dumps(body), headers=headers, **given) as answer:
        return answer.status, answer.headers, await answer.read()


def signed(url, signer=SigV4Auth, *, method="POST", body=b"{}", service="lambda", **keys):
    given = {**KEYS, **keys}
    headers = {"Content-Type": "application/json"} if body else {}
    request = AWSRequest(method, url, data=body, headers=headers)
    credentials = BotoCredentials(given["aws_access_key_id"], given["aws_secret_access_key"])
    signer(credentials, service, "us-east-1").add_auth(request)
    return request.prepare()


async def test_a_function_sees_the_request(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.made("echo", ECHO)
        url = await house.door("echo")
        async with session.post(
            f"{url}/a%20b/c?x=1&x=2&y=%C3%A9&z",
            data="höhe",
            headers={
                "Content-Type": "text/plain",
                "X-Many": "1",
                "Cookie": "a=1; b=2",
                "Authorization": "Bearer of tidings",
            },
        ) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "application/json"
            event = await answer.json()
        assert event["version"] == "2.0"
        assert event["rawPath"] == "/a%20b/c"
        assert event["rawQueryString"] == "x=1&x=2&y=%C3%A9&z"
        assert event["queryStringParameters"] == {"x": "1,2", "y": "é", "z": ""}
        assert event["cookies"] == ["a=1", "b=2"]
        assert (event["body"], event["isBase64Encoded"]) == ("höhe", False)
        assert event["headers"]["x-many"] == "1"
        assert event["headers"]["x-forwarded-proto"] == "http"
        assert {"cookie", "authorization"}.isdisjoint(event["headers"])
        context = event["requestContext"]
        assert context["accountId"] == "anonymous"
        assert context["apiId"] == url.rpartition("/")[2]
        assert context["domainName"].endswith(".lambda-url.us-east-1.localhost")
        assert context["http"]["method"] == "POST"
        assert context["http"]["path"] == "/a%20b/c"
        assert context["http"]["sourceIp"] == "127.0.0.1"
        assert context["requestId"] == answer.headers["x-amzn-RequestId"]


async def test_bytes_travel_as_base64(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.made("echo", ECHO)
        url = await house.door("echo")
        for kind, body in [
            ("image/png", b"\x89PNG"),
            ("text/plain", b"\xff\xfe"),
            ("application/x-www-form-urlencoded", b"a=b"),
        ]:
            async with session.put(url, data=body, headers={"Content-Type": kind}) as answer:
                event = await answer.json()
            assert event["isBase64Encoded"] is True
            assert base64.b64decode(event["body"]) == body
        async with session.get(url) as answer:
            event = await answer.json()
        assert "body" not in event
        assert (event["rawPath"], event["isBase64Encoded"]) == ("/", False)


async def test_the_id_may_stand_in_the_host(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.made("echo", ECHO)
        url = await house.door("echo")
        host = f"{url.rpartition('/')[2]}.lambda-url.us-east-1.localhost:{house.doors.port}"
        async with session.get(f"{house.doors.url}/x", headers={"Host": host}) as answer:
            event = await answer.json()
        assert event["rawPath"] == "/x"
        async with session.get(f"{house.doors.url}/{'a' * 32}/") as answer:
            assert answer.status == 404
        await house.do("delete_function_url_config", FunctionName="echo")
        async with session.get(url) as answer:
            assert answer.status == 404


async def test_what_a_function_returns_is_the_response(tmp_path):
    async with opened(tmp_path) as house, ClientSession(cookie_jar=CookieJar()) as session:
        await house.made("says", SAYS)
        url = await house.door("says")
        status, headers, body = await said(session, url, {"a": 1})
        assert (status, body) == (200, b'{"a": 1}')
        assert headers["Content-Type"] == "application/json"
        status, headers, body = await said(session, url, "text")
        assert (status, body) == (200, b'"text"')
        status, headers, body = await said(
            session,
            url,
            {
                "statusCode": 201,
                "headers": {"Content-Type": "image/gif", "X-N": 7, "Connection": "close"},
                "cookies": ["a=1", "b=2; HttpOnly"],
                "body": base64.b64encode(b"\x00\xff").decode(),
                "isBase64Encoded": True,
            },
        )
        assert (status, body) == (201, b"\x00\xff")
        assert headers["Content-Type"] == "image/gif"
        assert headers["X-N"] == "7"
        assert headers["x-amzn-remapped-connection"] == "close"
        assert headers.getall("Set-Cookie") == ["a=1", "b=2; HttpOnly"]
        status, _, body = await said(session, url, {"statusCode": 204})
        assert (status, body) == (204, b"")


@pytest.mark.parametrize(
    "answer",
    [
        {"statusCode": 42},
        {"statusCode": "x"},
        {"statusCode": 200, "headers": {"a b": "c"}},
        {"statusCode": 200, "headers": {"a": "b\r\nc: d"}},
        {"statusCode": 200, "headers": [1]},
        {"statusCode": 200, "headers": {"a": "b" * 70_000}},
        {"statusCode": 200, "cookies": "a=b"},
        {"statusCode": 200, "body": {"a": 1}},
        {"statusCode": 200, "body": "%", "isBase64Encoded": True},
    ],
)
def test_an_answer_that_is_no_http_is_refused(answer):
    with pytest.raises(BadAnswer):
        buffered(json.dumps(answer).encode())


async def test_errors_of_the_function_are_not_told_to_callers(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.made("bad", "def handler(event, context):\n    raise ValueError('secret')\n")
        await house.made("says", SAYS)
        await house.made("stuck", STUCK, Timeout=1)
        for url, body in [
            (await house.door("bad"), {}),
            (await house.door("says"), {"statusCode": 9999}),
            (await house.door("stuck"), {}),
        ]:
            status, headers, text = await said(session, url, body)
            assert (status, text) == (502, b"Internal Server Error")
            assert headers["x-amzn-RequestId"]


async def test_a_function_that_may_not_run_is_throttled(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.made("echo", ECHO)
        url = await house.door("echo")
        await house.do(
            "put_function_concurrency", FunctionName="echo", ReservedConcurrentExecutions=0
        )
        async with session.get(url) as answer:
            assert answer.status == 429
            assert answer.headers["Retry-After"]
            assert (await answer.json())["message"] == "Rate Exceeded."


async def test_limits_on_body_and_headers(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.made("echo", ECHO)
        url = await house.door("echo")
        async with session.post(url, data=io.BytesIO(b"x" * (6 * (1 << 20) + 1))) as answer:
            assert answer.status == 413
        async with session.post(url, data=io.BytesIO(b"x" * (5 * (1 << 20)))) as answer:
            assert answer.status == 413, "base64 makes it larger than an event may be"
        async with session.get(url, headers={f"x-{n}": "x" * 7000 for n in range(5)}) as answer:
            assert answer.status == 431


async def test_a_body_that_does_not_come_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("faas.urls.server.BODY_SECONDS", 0.2)

    async def slow():
        yield b"begun"
        await asyncio.Event().wait()

    async with opened(tmp_path) as house, ClientSession() as session:
        await house.made("echo", ECHO)
        async with session.post(await house.door("echo"), data=slow()) as answer:
            assert answer.status == 408


async def test_a_stream_has_status_headers_and_cookies(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.streaming("headed", HEADED)
        url = await house.door("headed", InvokeMode="RESPONSE_STREAM")
        async with session.get(f"{url}/tea") as answer:
            assert answer.status == 418
            assert answer.headers["X-Tea"] == "yes"
            assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2; Secure"]
            assert answer.headers["Transfer-Encoding"] == "chunked"
            assert await answer.read() == b"/tea!"
        whole = await house.do(
            "update_function_url_config", FunctionName="headed", InvokeMode="BUFFERED"
        )
        assert whole["InvokeMode"] == "BUFFERED"
        async with session.get(f"{url}/tea") as answer:
            assert (answer.status, await answer.read()) == (418, b"/tea!")
            assert "Transfer-Encoding" not in answer.headers


async def test_the_example_counts_down_a_line_at_a_time(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.streaming("countdown")
        url = await house.door("countdown", InvokeMode="RESPONSE_STREAM")
        loop = asyncio.get_running_loop()
        async with session.get(f"{url}?from=3&pause=0.3") as answer:
            assert answer.content_type == "text/plain"
            lines = [(loop.time(), line) async for line in answer.content]
        assert [line for _, line in lines] == [b"3\n", b"2\n", b"1\n", b"lift-off\n"]
        assert lines[-1][0] - lines[0][0] > 0.6


async def test_a_stream_that_fails_is_broken_off(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.streaming("half", HALF)
        url = await house.door("half", InvokeMode="RESPONSE_STREAM")
        async with session.get(url) as answer:
            assert answer.status == 200
            with pytest.raises((ClientPayloadError, ClientError)):
                await answer.read()
        for name, source in [("never", NEVER), ("odd", ODD)]:
            await house.streaming(name, source)
            url = await house.door(name, InvokeMode="RESPONSE_STREAM")
            async with session.get(url) as answer:
                assert (answer.status, await answer.read()) == (502, b"Internal Server Error")


async def test_a_function_that_does_not_stream_is_streamed_as_it_is(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.made("says", SAYS)
        url = await house.door("says", InvokeMode="RESPONSE_STREAM")
        status, headers, body = await said(session, url, {"a": 1})
        assert (status, body) == (200, b'{"a": 1}')
        assert headers["Content-Type"] == "application/json"


async def test_pages_of_other_origins_may_what_the_url_says(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.made("says", SAYS)
        cors = {
            "AllowOrigins": ["http://page.example"],
            "AllowMethods": ["GET", "POST"],
            "AllowHeaders": ["content-type"],
            "ExposeHeaders": ["x-n"],
            "AllowCredentials": True,
            "MaxAge": 60,
        }
        url = await house.door("says", Cors=cors)
        asks = {"Origin": "http://page.example", "Access-Control-Request-Method": "POST"}
        async with session.options(url, headers=asks) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == "http://page.example"
            assert answer.headers["Access-Control-Allow-Methods"] == "GET,POST"
            assert answer.headers["Access-Control-Allow-Headers"] == "content-type"
            assert answer.headers["Access-Control-Allow-Credentials"] == "true"
            assert answer.headers["Access-Control-Max-Age"] == "60"
        for change in (
            {"Origin": "http://evil.example"},
            {"Access-Control-Request-Method": "DELETE"},
        ):
            async with session.options(url, headers=asks | change) as answer:
                assert "Access-Control-Allow-Origin" not in answer.headers
        own = {"statusCode": 200, "headers": {"access-control-allow-origin": "*"}}
        async with session.post(url, json=own, headers={"Origin": "http://page.example"}) as answer:
            assert answer.headers.getall("Access-Control-Allow-Origin") == ["http://page.example"]
            assert answer.headers["Access-Control-Expose-Headers"] == "x-n"
        async with session.post(url, json=own) as answer:
            assert answer.headers.getall("Access-Control-Allow-Origin") == ["*"]


async def test_a_url_for_everybody_needs_a_statement_that_says_so(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.made("echo", ECHO)
        url = await house.door("echo", public=False)
        async with session.get(url) as answer:
            assert answer.status == 403
            assert answer.headers["x-amzn-ErrorType"] == "AccessDeniedException"
            assert await answer.json() == {"Type": "User", "Message": "Forbidden"}


async def test_without_credentials_a_url_with_signatures_lets_nobody_in(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.made("echo", ECHO)
        url = await house.door("echo", auth="AWS_IAM")
        request = signed(url)
        for headers in ({}, dict(request.headers)):
            async with session.post(url, data=b"{}", headers=headers) as answer:
                assert answer.status == 403


async def test_signed_requests_are_let_in_and_named(tmp_path):
    async with opened(tmp_path, credentials=FILE) as house, ClientSession() as session:
        await house.made("echo", ECHO)
        url = await house.door("echo", auth="AWS_IAM")
        for to in (url + "/", url + "/a%20b?x=1&y=%2F"):
            request = signed(to)
            async with session.post(
                request.url, data=b"{}", headers=dict(request.headers)
            ) as answer:
                assert answer.status == 200, await answer.text()
                context = (await answer.json())["requestContext"]
            iam = context["authorizer"]["iam"]
            assert iam["userArn"] == "arn:aws:iam::000000000000:user/ann"
            assert iam["accessKey"] == "AKIDANN"
            assert context["accountId"] == "000000000000"
        presigned = signed(url + "/", SigV4QueryAuth, method="GET", body=b"")
        async with session.get(presigned.url) as answer:
            assert answer.status == 200


async def test_signatures_that_are_not_good_are_refused(tmp_path):
    async with opened(tmp_path, credentials=FILE) as house, ClientSession() as session:
        await house.made("echo", ECHO)
        url = await house.door("echo", auth="AWS_IAM") + "/"
        good = dict(signed(url).headers)
        for headers, body in [
            ({}, b"{}"),
            (good, b"{ }"),
            (dict(signed(url, aws_secret_access_key=OTHER).headers), b"{}"),
            (dict(signed(url, aws_access_key_id="x").headers), b"{}"),
            (dict(signed(url, service="execute-api").headers), b"{}"),
        ]:
            async with session.post(url, data=body, headers=headers) as answer:
                assert answer.status == 403
        async with session.post(url, data=b"{}", headers=good) as answer:
            assert answer.status == 200


async def test_a_caller_who_hangs_up_does_not_end_the_function(tmp_path):
    async with opened(tmp_path) as house, ClientSession() as session:
        await house.streaming("countdown", Timeout=10)
        url = await house.door("countdown", InvokeMode="RESPONSE_STREAM")
        async with session.get(f"{url}?from=5&pause=0.2") as answer:
            await answer.content.readline()
            answer.close()

        async with asyncio.timeout(20):
            while not any(
                "REPORT" in line.text for line in house.faas.functions.log("countdown", after=0)
            ):
                await asyncio.sleep(0.05)
        lines = [line.text for line in house.faas.functions.log("countdown", after=0)]
        assert not any("Status:" in line for line in lines)
