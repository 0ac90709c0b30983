"""Every operation that is served, asked in every odd way: never a failure of the server's own."""

import asyncio
import base64
import http.client
import json
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lambda_api import served
from support.odd_requests import ROLE, ZIP, Odd

from faas.api.services import service

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

LAMBDA, SQS = service("lambda"), service("sqs")
RUNS = {"Invoke", "InvokeAsync", "InvokeWithResponseStream"}
"""Operations that start processes: only ever asked about functions that are not there."""
FINE = {501, 502}


class Place:
    """A service in a loop of its own, and what it serves."""

    def __init__(self, url, operations):
        self.url, self.operations = url, operations
        self._door = None

    def ask(self, method, path, headers, body):
        """Return status and body; the connection is used again."""
        parts = urlsplit(self.url)
        for fresh in (self._door is None, True):
            if fresh:
                self.close()
                self._door = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
            try:
                self._door.request(method, path, body, headers)
                answer = self._door.getresponse()
                return answer.status, answer.read()
            except (http.client.HTTPException, ConnectionError):
                if fresh:
                    raise
        raise AssertionError

    def close(self):
        """Close the connection."""
        if self._door is not None:
            self._door.close()


@contextmanager
def placed(tmp_path):
    ready, found = threading.Event(), []

    async def serve(stop):
        async with served(tmp_path, eager=False) as api:
            found.extend([Place(api.url, set(api.faas.operations)), asyncio.get_running_loop()])
            ready.set()
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=asyncio.run, args=(serve(stop),))
    thread.start()
    assert ready.wait(30)
    place, loop = found
    try:
        yield place
    finally:
        place.close()
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)


def furnish(place):
    """Make some of everything, for requests to be about."""
    code = {"ZipFile": base64.b64encode(ZIP).decode()}
    made = {"Role": ROLE, "Runtime": "python3.11", "Handler": "app.handler", "Code": code}
    functions = "/2015-03-31/functions"
    for path, body in (
        (functions, made | {"FunctionName": "f", "Publish": True}),
        (functions, made | {"FunctionName": "g", "Publish": True}),
        (f"{functions}/f/aliases", {"Name": "live", "FunctionVersion": "1"}),
        ("/2018-10-31/layers/l/versions", {"Content": code}),
    ):
        assert place.ask("POST", path, {}, json.dumps(body).encode())[0] == 201
    headers = {"X-Amz-Target": "AmazonSQS.CreateQueue"}
    assert place.ask("POST", "/", headers, b'{"QueueName": "q"}')[0] == 200


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with placed(tmp_path_factory.mktemp("odd")) as found:
        furnish(found)
        yield found


OPERATIONS = sorted(set(LAMBDA.operations) - RUNS)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_request_of_lambda_makes_the_server_fail(place, name, data):
    if name not in place.operations:
        pytest.skip("not served")
    odd = Odd(LAMBDA, wild=data.draw(st.booleans()))
    request = data.draw(odd.request(LAMBDA.operations[name]))
    status, said = place.ask(*request)
    assert status < 500 or status in FINE, (request, said)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize("name", sorted(SQS.operations))
def test_no_request_of_sqs_makes_the_server_fail(place, name, data):
    operation = SQS.operations[name]
    odd = Odd(SQS, wild=data.draw(st.booleans()))
    found = data.draw(odd.members(operation.input.members, operation.input.required, 0))
    if isinstance(found.get("WaitTimeSeconds"), int):
        found["WaitTimeSeconds"] = min(found["WaitTimeSeconds"], 0)
    headers = {"X-Amz-Target": f"AmazonSQS.{name}"}
    status, said = place.ask("POST", "/", headers, json.dumps(found).encode())
    assert status < 500 or status in FINE, (found, said)
