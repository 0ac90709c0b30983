"""The workers' metrics: what Prometheus reads, and that labels stay few."""

import asyncio
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.pretend import LoopClock, Pretend, PretendHost, VirtualLoop, launch

from faas.lambda_errors import TooManyRequests
from faas.running.outcome import Kind, Outcome
from faas.running.tally import MOST_VERSIONS, OTHER, Tally
from faas.running.workers import Limits, Workers
from faas.telemetry.logs import Ring
from faas.telemetry.metrics import exposition
from faas.vm import Call


def sampled(text):
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            name = sample.name.removeprefix("wherry_faas_")
            found[name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


async def worked(loop):
    backend = Pretend()
    ring = Ring(lines=100)
    async with asyncio.TaskGroup() as tasks:
        limits = Limits(instances=4, keep_idle=60.0)
        workers = Workers(backend, limits, LoopClock(loop), tasks, host=PretendHost(backend))
        what = launch("f", "7")

        async def call(**event):
            request = Call("r", json.dumps(event).encode(), 0, what.arn)
            return await workers.invoke(what, request, ring)

        await call()
        await asyncio.sleep(1)
        await call(seconds=0.2)
        await call(die=True)
        workers.reserve("f", 0)
        with pytest.raises(TooManyRequests):
            await call()
        workers.reserve("f", None)
        workers.provision(what, ring, 1)
        await asyncio.sleep(5)
        content_type, text = exposition(workers)
        await workers.stop()
    assert content_type.startswith("text/plain")
    return sampled(text)


def test_what_was_done_and_what_there_is_can_be_read():
    loop = VirtualLoop()
    try:
        found = loop.run_until_complete(worked(loop))
    finally:
        loop.close()
    version = (("function", "f"), ("version", "7"))

    def one(name, **labels):
        return found[name, tuple(sorted([*version, *labels.items()]))]

    assert one("invocations_total", start="cold") == 1
    assert one("invocations_total", start="frozen") == 1
    assert one("errors_total", error="exit") == 1
    reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert one("throttles_total", reason=reason) == 1
    assert one("duration_seconds_count") == 3
    assert one("duration_seconds_bucket", le="0.1") == 2
    assert one("instances", state="idle") == 1
    assert one("provisioned", state="ready") == 1
    assert found["start_seconds_count", (("start", "restored"),)] == 1
    assert found["concurrency_limit", ()] == 1000
    assert found["wait_seconds_count", ()] == 3
    assert ("memory_available_bytes", ()) in found


def test_versions_without_end_do_not_make_metrics_without_end():
    tally = Tally()
    outcome = Outcome(b"", None, Kind.WARM)
    for number in range(MOST_VERSIONS + 50):
        tally.ended(("f", str(number)), Kind.WARM, outcome, 0.1)
    assert len(tally.durations) == MOST_VERSIONS + 1
    assert tally.calls[OTHER, Kind.WARM] == 50
    tally.forget("f")
    assert set(tally.durations) == {OTHER}
