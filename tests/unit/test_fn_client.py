"""What ``wherry fn`` says while it waits for a function."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

from faas.client.api import Api


@contextmanager
def api(states):
    """Serve a function that is in one state after the other, each asked for once."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"State": next(states)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Api(f"http://127.0.0.1:{server.server_port}", sleep=lambda _: None)
        finally:
            server.shutdown()
            thread.join()


def test_a_long_wait_gives_signs_of_life():
    said = []
    with api(iter(["Pending"] * 400 + ["Active"])) as slow:
        assert slow.settled("f", said.append)["State"] == "Active"
    assert [round(seconds) for seconds in said] == [0, 15, 30]


def test_a_function_that_is_ready_is_not_waited_for():
    said = []
    with api(iter(["Active"])) as ready:
        assert ready.settled("f", said.append)["State"] == "Active"
    assert said == []
