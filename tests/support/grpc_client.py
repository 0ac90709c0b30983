"""A gRPC program that dials ``xds:///`` targets as it is told: one JSON object a line, in and out.

``{"target": T, "calls": N}`` makes N calls one after the other, with ``method``, ``metadata`` and
``seconds`` (the deadline of each) if given. ``{"target": T, "flow": N}`` makes calls without a
pause on N threads until ``{"seen": "stop"}``; ``{"seen": "now"}`` says how they ended so far.
"""

import json
import sys
import threading
import time
from collections import Counter

import grpc

METHOD = "/test.Test/Who"


class Caller:
    """Makes calls on one channel a target."""

    def __init__(self):
        self.channels = {}
        self.flowing = []
        self.stopped = threading.Event()
        self.seen = Counter()

    def call(self, asked, deadline=5.0):
        if (channel := self.channels.get(asked["target"])) is None:
            channel = self.channels[asked["target"]] = grpc.insecure_channel(asked["target"])
        method = channel.unary_unary(asked.get("method", METHOD))
        metadata = list(asked.get("metadata", {}).items())
        try:
            answer = method(b"", timeout=asked.get("seconds", deadline), metadata=metadata)
            return answer.decode()
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"

    def calls(self, asked):
        began = time.monotonic()
        ended = Counter(self.call(asked) for _ in range(asked["calls"]))
        return {"ended": ended, "seconds": time.monotonic() - began}

    def flow(self, asked):
        def go():
            while not self.stopped.is_set():
                self.seen[self.call(asked)] += 1

        self.flowing = [threading.Thread(target=go) for _ in range(asked["flow"])]
        for thread in self.flowing:
            thread.start()
        return {}

    def ended(self, asked):
        if asked["seen"] == "stop":
            self.stopped.set()
            for thread in self.flowing:
                thread.join()
        return {"ended": dict(self.seen)}


caller = Caller()
for line in sys.stdin:
    order = json.loads(line)
    does = caller.calls if "calls" in order else caller.flow if "flow" in order else caller.ended
    print(json.dumps(does(order)), flush=True)
caller.stopped.set()
