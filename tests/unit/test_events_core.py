"""What becomes of an event: decided from its state, what happened and the time."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.events import lineage, shapes
from faas.events.core import Happened, Result, after_try, before_try
from faas.events.event import MAX_EVENT, Condition, Event, Phase, Progress, Rules
from faas.events.targets import Kind, target

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
QUEUE = "arn:aws:sqs:us-east-1:000000000000:ends"
FAILED = Happened(Result.FAILED, 200, "boom")
THROTTLED = Happened(Result.THROTTLED, 429, "Rate Exceeded.")


def accepted(**rules):
    event = Event("id", "f", "$LATEST", ARN, b"{}")
    return Progress.of(event, Rules(**rules), now=1000.0)


def test_a_function_error_is_tried_again_after_one_and_after_two_minutes():
    first = after_try(accepted(), FAILED, now=1000.0)
    second = after_try(first, FAILED, now=1060.0)
    assert (first.due, second.due) == (1060.0, 1180.0)
    third = after_try(second, FAILED, now=1180.0)
    assert (third.phase, third.condition) == (Phase.DELIVERING, Condition.EXHAUSTED)
    assert (third.tries, third.reason) == (3, "boom")


def test_without_retries_the_first_error_ends_the_event():
    ended = after_try(accepted(max_retries=0), FAILED, now=1000.0)
    assert ended.condition is Condition.EXHAUSTED


def test_throttles_are_tried_again_with_growing_waits_until_the_event_is_too_old():
    progress, now, waits = accepted(max_age=600), 1000.0, []
    while progress.condition is None:
        progress = before_try(after_try(progress, THROTTLED, now=now), now=now)
        waits.append(progress.due - now)
        now = progress.due
        progress = before_try(progress, now=now)
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert now == 1600.0
    assert (progress.condition, progress.tries) == (Condition.TOO_OLD, 0)
    assert progress.code == 429


def test_a_function_that_may_not_run_ends_the_event_at_once():
    ended = after_try(accepted(), Happened(Result.REFUSED, 404, "gone"), now=1000.0)
    assert (ended.condition, ended.tries, ended.code) == (Condition.EXHAUSTED, 0, 404)


def test_success_goes_to_its_own_destination_and_never_to_the_dead_letters():
    progress = accepted(on_success="s", on_failure="f", dead_letter="d")
    done = after_try(progress, Happened(Result.SUCCEEDED), now=1001.0)
    assert (done.destination, done.dead_letter) == ("s", "")
    failed = after_try(progress, Happened(Result.REFUSED, 404, "gone"), now=1001.0)
    assert (failed.destination, failed.dead_letter) == ("f", "d")


@given(st.lists(st.sampled_from([FAILED, THROTTLED, Happened(Result.BROKEN, 500, "no")])))
def test_every_event_ends_and_never_runs_more_often_than_its_rules_say(results):
    progress, now = accepted(max_age=3600), 1000.0
    for happened in results:
        progress = before_try(progress, now=now)
        if progress.condition is not None:
            break
        progress = after_try(progress, happened, now=now)
        if progress.condition is not None:
            break
        assert progress.due > now or progress.due == progress.accepted + 3600
        now = progress.due
    assert progress.tries <= 3
    assert now <= progress.accepted + 3600


def test_a_record_has_the_shape_that_lambda_gives_it():
    ended = after_try(accepted(max_retries=0), FAILED, now=1000.0)
    response = shapes.Response(b'{"errorMessage": "boom"}', "$LATEST", "Unhandled")
    assert json.loads(shapes.record(ended, b'{"a": 1}', response, now=1573755365.568)) == {
        "version": "1.0",
        "timestamp": "2019-11-14T18:16:05.568Z",
        "requestContext": {
            "requestId": "id",
            "functionArn": f"{ARN}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 1,
        },
        "requestPayload": {"a": 1},
        "responseContext": {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": "Unhandled",
        },
        "responsePayload": {"errorMessage": "boom"},
    }
    assert shapes.letter_attributes(ended) == {
        "RequestID": ("String", "id"),
        "ErrorCode": ("Number", "200"),
        "ErrorMessage": ("String", "boom"),
    }


def test_a_record_over_the_limit_loses_payloads_and_still_arrives():
    ended = after_try(accepted(), Happened(Result.SUCCEEDED), now=1000.0)
    large = json.dumps("x" * (MAX_EVENT - 10)).encode()
    record = shapes.record(ended, large, shapes.Response(large, "1", None), now=1.0)
    assert len(record) <= MAX_EVENT
    assert json.loads(record)["requestPayload"] is None
    small = shapes.record(ended, b"1", shapes.Response(large, "1", None), now=1.0)
    assert json.loads(small)["requestPayload"] == 1
    assert json.loads(small)["responsePayload"] is None


def test_a_chain_counts_each_function_in_the_trace_header():
    trace, runs = lineage.counted("", "f", event="e")
    assert (trace[:7], runs) == ("Root=1-", 1)
    for expected in range(2, 30):
        trace, other = lineage.counted(trace, "g", event="e")
        trace, runs = lineage.counted(trace, "f", event="e")
        assert (runs, other) == (expected, expected - 1)
    assert trace.count("Root=") == 1


def test_a_trace_header_of_another_maker_is_kept():
    trace, runs = lineage.counted("Root=1-a-b;Parent=c;Sampled=1;Lineage=x:y|:|z:9", "f", event="e")
    assert trace.startswith("Root=1-a-b;Parent=c;Sampled=1;Lineage=z:9|")
    assert runs == 1


@pytest.mark.parametrize(
    ("arn", "kind"),
    [
        (QUEUE, Kind.QUEUE),
        (ARN, Kind.FUNCTION),
        (f"{ARN}:live", Kind.FUNCTION),
        (f"{QUEUE}.fifo", None),
        ("arn:aws:sns:us-east-1:000000000000:topic", None),
        ("f", None),
        ("", None),
    ],
)
def test_targets_are_queues_and_functions(arn, kind):
    found = target(arn)
    assert (None if found is None else found.kind) == kind


def test_an_event_comes_back_out_of_its_state():
    event = Event("id", "f", "live", ARN, b"[1]", "trace", "context", "parent")
    progress = Progress.of(event, Rules(), now=5.0)
    assert replace(progress, tries=2).event(b"[1]") == event


@pytest.mark.parametrize(("before", "after"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_payload_that_is_too_deep_to_be_written_again_is_left_out(before, after):
    progress = accepted()
    for levels in range(900, 1010):
        payload = before * levels + b"1" + after * levels
        response = shapes.Response(payload, "1", None)
        said = shapes.record(progress, payload, response, now=1.0)
        assert said.startswith(b'{"version":"1.0"')
