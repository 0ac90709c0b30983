"""What of a streamed invocation is not seen over HTTP: the limit, and what is said at the end."""

from faas.operations.invoke import MAX_CHUNK, MAX_STREAM, Chunks
from faas.running.outcome import Kind, Outcome

MIB = bytes(1 << 20)


class Sink:
    """Takes events and counts their bytes."""

    def __init__(self):
        self.begun, self.size, self.largest, self.last = [], 0, 0, None

    async def begin(self, members):
        self.begun.append(members)

    async def send(self, event, members):
        if event == "PayloadChunk":
            self.size += len(members["Payload"])
            self.largest = max(self.largest, len(members["Payload"]))
        else:
            self.last = {name: value for name, value in members.items() if value is not None}


def outcome(payload=b"", error=None):
    return Outcome(payload, error, Kind.WARM)


async def test_over_the_limit_the_rest_is_dropped_and_told():
    sink = Sink()
    chunks = Chunks(sink, "7")
    await chunks.begin("text/plain")
    for _ in range(202):
        await chunks.write(MIB)
    await chunks.complete(outcome(), None)
    assert sink.size == MAX_STREAM
    assert sink.last["ErrorCode"] == "Function.ResponseSizeTooLarge"
    assert str(202 << 20) in sink.last["ErrorDetails"]


async def test_a_large_piece_is_sent_in_chunks():
    sink = Sink()
    chunks = Chunks(sink, "7")
    await chunks.begin("text/plain")
    await chunks.write(MIB * 3 + b"x")
    assert (sink.size, sink.largest) == ((3 << 20) + 1, MAX_CHUNK)


async def test_a_call_that_streamed_nothing_still_begins_and_ends():
    sink = Sink()
    await Chunks(sink, "7").complete(outcome(b'{"errorType": "E"}', "Unhandled"), "bG9n")
    assert sink.begun == [{"StatusCode": 200, "ExecutedVersion": "7"}]
    assert sink.last == {
        "ErrorCode": "E",
        "ErrorDetails": '{"errorType": "E"}',
        "LogResult": "bG9n",
    }


async def test_an_error_without_a_document_has_the_outcomes_name():
    sink = Sink()
    await Chunks(sink, "7").complete(outcome(b"\xff", "Unhandled"), None)
    assert sink.last["ErrorCode"] == "Unhandled"
