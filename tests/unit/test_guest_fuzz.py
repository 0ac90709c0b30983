"""A guest that breaks every rule: its host answers, or gives it up, and holds little."""

import asyncio
import json
import socket

from hypothesis import example, given
from hypothesis import strategies as st

from faas.backends.guest import Guest
from faas.backends.tasks import tasks
from faas.channel import MAX_FRAME, WINDOW, Frame, Kind
from faas.running.instance import Instance, Job, Phase
from faas.vm import Answer, Call, Crashed

CALL = Call("r1", b"{}", 1 << 50, "arn")
HEADER = {"kind": "response", "request_id": "r1", "content_type": "text/plain"}
documents = st.one_of(
    st.dictionaries(
        st.sampled_from(
            [*HEADER, "streaming", "error_type", "used_kib", "status", "signal", "extensions"]
        ),
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=9), st.just("r1")),
    ),
    st.fixed_dictionaries({name: st.just(value) for name, value in HEADER.items()}),
).map(lambda fields: json.dumps(fields).encode())
frames = st.lists(
    st.tuples(
        st.integers(0, 20),
        st.sampled_from([0, 0, 1, 1, 2, 3, 5, 1 << 31]),
        st.one_of(documents, st.binary(max_size=40), st.just(b"x" * MAX_FRAME)),
    ).map(lambda parts: parts[0].to_bytes(1) + Frame(Kind.LOG, *parts[1:]).encoded()[1:]),
    max_size=30,
)
LONE = b'{"status": 1, "error_type": "\\ud800"}'


async def what_comes_of(sent: bytes) -> Answer | Crashed:
    """Return what a call gives whose guest sends ``sent`` and hangs up."""
    ours, theirs = socket.socketpair()
    async with tasks() as running:
        guest = Guest(
            "f-1",
            await asyncio.open_connection(sock=ours),
            egress=None,
            logs=lambda line: line.encode(),
            tasks=running,
        )
        reader, writer = await asyncio.open_connection(sock=theirs)
        try:
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                group.create_task(misbehave(reader, writer, sent), name="guest")
                return await guest.invoke(CALL)
        except* Crashed as crashes:
            crash = crashes.exceptions[0]
            assert isinstance(crash, Crashed)
        finally:
            guest.close()
            writer.close()
    return crash


async def misbehave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes):
    """Send once the event has come, and hang up."""
    await reader.read(1)
    writer.write(sent)
    writer.write_eof()


@given(frames)
@example([Frame(Kind.EXIT, 0, LONE).encoded()])
@example([Frame(Kind.EXIT, 0, b'{"error_type": "\xed\xa0\x80"}').encoded()])
def test_whatever_a_guest_sends_a_call_ends_and_its_texts_can_be_written(sent):
    end = asyncio.run(what_comes_of(b"".join(sent)))
    text = f"{end.error_type} {end}" if isinstance(end, Crashed) else f"{end.error}"
    assert text.encode()


def test_a_result_in_frames_of_one_byte_is_put_together():
    body = b"y" * (WINDOW // 2)
    sent = Frame(Kind.RESULT, 1, json.dumps(HEADER).encode()).encoded()
    sent += b"".join(Frame(Kind.DATA, 1, body[:1]).encoded() for _ in body)
    end = asyncio.run(what_comes_of(sent + Frame(Kind.END, 1).encoded()))
    assert end == Answer(body, None, "text/plain")


async def test_an_instance_whose_owner_was_cut_short_takes_no_job_and_may_be_stopped():
    instance = Instance("f.1")
    wake = instance.rest(0.0)
    assert instance.phase is Phase.IDLE
    wake.cancel()
    assert instance.phase is Phase.ENDING
    instance.stop()
    instance = Instance("f.2")
    wake = instance.rest(0.0)
    job = Job(None, asyncio.get_running_loop().create_future(), lambda: None)
    instance.assign(job)
    assert await wake is job
    assert instance.phase is Phase.BUSY
