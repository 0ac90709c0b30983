"""The platform's lines: as CloudWatch shows them, text and JSON."""

import json

import pytest
from support.pretend import launch

from faas.telemetry.report import Ended, Timing, style
from faas.telemetry.tracing import Trace, read

AT = 1_760_000_000_123_456_789
TRACE = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)


def end(**fields):
    given = {"request_id": "r", "timing": Timing(0.0123), "memory_mib": 128, "used_mib": 41}
    return Ended(**given | fields)


def report(ended, **fields):
    return style(launch(**fields)).end(AT, ended)[1]


def test_a_warm_call_reports_duration_billing_and_memory():
    assert report(end()) == (
        "REPORT RequestId: r\tDuration: 12.30 ms\tBilled Duration: 13 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 41 MB\t"
    )


def test_memory_that_was_not_measured_is_not_claimed():
    assert "Max Memory Used" not in report(end(used_mib=None))


def test_the_init_of_a_cold_call_is_billed():
    line = report(end(timing=Timing(0.25006, init=0.36787)))
    assert "Duration: 250.06 ms\tBilled Duration: 618 ms" in line
    assert line.endswith("Max Memory Used: 41 MB\tInit Duration: 367.87 ms\t")


def test_what_was_provisioned_is_not_billed_to_the_call():
    line = report(end(timing=Timing(0.01, init=5.0, billed_init=False)))
    assert "Billed Duration: 10 ms" in line


def test_a_restored_call_reports_the_restore():
    line = report(end(timing=Timing(0.1, restore=0.2501)))
    assert "Billed Duration: 351 ms" in line
    assert "\tRestore Duration: 250.10 ms\tBilled Restore Duration: 251 ms\t" in line


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        ("timeout", "Sandbox.Timedout", "\tStatus: timeout"),
        ("error", "Runtime.ExitError", "\tStatus: error\tError Type: Runtime.ExitError"),
        ("error", "Runtime.OutOfMemory", "\tStatus: error\tError Type: Runtime.OutOfMemory"),
    ],
)
def test_a_call_that_ended_its_sandbox_says_so(status, kind, said):
    assert report(end(status=status, error_type=kind)).endswith("Max Memory Used: 41 MB" + said)


def test_a_sampled_trace_is_named_and_another_is_not():
    lines = style(launch()).end(AT, end(trace=TRACE))
    assert lines[2] == (
        "XRAY TraceId: 1-0af76519-16cd43dd8448eb211c80319c\tSegmentId: b7ad6b7169203331\t"
        "Sampled: true\t"
    )
    assert len(style(launch()).end(AT, end(trace=Trace("0" * 32, "1" * 16, sampled=False)))) == 2


@pytest.mark.parametrize(
    ("runtime", "version"),
    [
        ("python3.11", "python:3.11"),
        ("nodejs20.x", "nodejs:20"),
        ("provided.al2023", "provided:al2023"),
    ],
)
def test_starts_name_the_runtime(runtime, version):
    text = style(launch(runtime=runtime))
    arn = text.init_start(AT)[0].partition("Runtime Version ARN: ")[2]
    assert arn.startswith("arn:aws:lambda:us-east-1::runtime:")
    assert text.init_start(AT) == [
        f"INIT_START Runtime Version: {version}\tRuntime Version ARN: {arn}"
    ]
    assert text.restore_start(AT)[0].startswith(f"RESTORE_START Runtime Version: {version}\t")


def test_a_container_has_no_runtime_of_ours_to_name():
    assert style(launch(runtime="")).init_start(AT) == []


def test_failures_and_timeouts_of_init_are_told_apart():
    text = style(launch())
    assert text.init_failed(AT, 1.5, "error", "Runtime.ImportModuleError") == [
        "INIT_REPORT Init Duration: 1500.00 ms\tPhase: init\tStatus: error\t"
        "Error Type: Runtime.ImportModuleError"
    ]
    assert text.init_failed(AT, 10, "timeout", "Sandbox.Timedout") == [
        "INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout"
    ]
    assert text.restored(AT, 0.2) == ["RESTORE_REPORT Restore Duration: 200.00 ms"]


def test_a_timeout_and_an_exit_read_as_on_lambda():
    text = style(launch())
    assert text.broken(AT, "r", "Task timed out after 3.00 seconds", "") == [
        "2025-10-09T08:53:20.123Z r Task timed out after 3.00 seconds"
    ]
    said = text.broken(AT, "r", "Runtime exited with error: exit status 3", "Runtime.ExitError")
    assert said == [
        "RequestId: r Error: Runtime exited with error: exit status 3",
        "Runtime.ExitError",
    ]


def test_json_logs_are_records():
    records = style(launch(json_logs=True))
    [start] = records.start(AT, "r", TRACE)
    assert json.loads(start) == {
        "time": "2025-10-09T08:53:20.123Z",
        "type": "platform.start",
        "record": {
            "requestId": "r",
            "version": "1",
            "tracing": {
                "spanId": "b7ad6b7169203331",
                "type": "X-Amzn-Trace-Id",
                "value": TRACE.header(),
            },
        },
    }
    [line] = records.end(AT, end(timing=Timing(0.0123, init=0.1)))
    assert json.loads(line)["record"] == {
        "requestId": "r",
        "status": "success",
        "metrics": {
            "durationMs": 12.3,
            "billedDurationMs": 113,
            "memorySizeMB": 128,
            "maxMemoryUsedMB": 41,
            "initDurationMs": 100.0,
        },
    }
    [line] = records.end(AT, end(status="error", error_type="Runtime.ExitError"))
    assert json.loads(line)["record"]["errorType"] == "Runtime.ExitError"
    [line] = records.init_start(AT)
    assert json.loads(line)["record"]["functionName"] == "f"
    [line] = records.init_failed(AT, 1, "timeout", "Sandbox.Timedout")
    assert json.loads(line)["record"]["status"] == "timeout"
    assert json.loads(records.restored(AT, 1)[0])["type"] == "platform.restoreReport"


def test_both_forms_of_a_trace_are_read_and_written():
    header = "Root=1-0af76519-16cd43dd8448eb211c80319c;Parent=b7ad6b7169203331;Sampled=1"
    assert read(header) == TRACE
    assert read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") == TRACE
    assert TRACE.header() == header
    assert read(TRACE.traceparent()) == TRACE
    assert read(header + ";Lineage=1:ab:0").header() == header + ";Lineage=1:ab:0"
    assert read("Root=1-0af76519-16cd43dd8448eb211c80319c").sampled is False


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        "Root=2-0af76519-16cd43dd8448eb211c80319c",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Root=1-0af76519-16cd43dd8448eb211c80319c;" + "x" * 2000,
    ],
)
def test_what_is_no_trace_is_none(header):
    assert read(header) is None
