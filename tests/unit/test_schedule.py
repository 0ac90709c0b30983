"""Schedule expressions, as EventBridge reads them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.schedules.expression import BadSchedule, parsed
from wherry.config import load
from wherry.errors import ConfigError


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def next_times(expression, start, count=3):
    schedule, now, found = parsed(expression), at(start), []
    for _ in range(count):
        now = schedule.after(now, declared=at(start))
        if now is None:
            break
        found.append(datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M"))
    return found


def test_a_rate_counts_from_its_declaration():
    assert next_times("rate(5 minutes)", "2026-01-01T00:02") == [
        "2026-01-01T00:07",
        "2026-01-01T00:12",
        "2026-01-01T00:17",
    ]
    assert next_times("rate(1 day)", "2026-01-01T00:02", 1) == ["2026-01-02T00:02"]


@pytest.mark.parametrize(
    ("expression", "times"),
    [
        ("cron(0 10 * * ? *)", ["2026-01-01T10:00", "2026-01-02T10:00", "2026-01-03T10:00"]),
        ("cron(15 12 * * ? *)", ["2026-01-01T12:15", "2026-01-02T12:15", "2026-01-03T12:15"]),
        ("cron(0 18 ? * MON-FRI *)", ["2026-01-01T18:00", "2026-01-02T18:00", "2026-01-05T18:00"]),
        ("cron(0 8 1 * ? *)", ["2026-01-01T08:00", "2026-02-01T08:00", "2026-03-01T08:00"]),
        ("cron(0/15 * * * ? *)", ["2026-01-01T00:15", "2026-01-01T00:30", "2026-01-01T00:45"]),
        ("cron(0 9 ? * 2#1 *)", ["2026-01-05T09:00", "2026-02-02T09:00", "2026-03-02T09:00"]),
        ("cron(0 9 L * ? *)", ["2026-01-31T09:00", "2026-02-28T09:00", "2026-03-31T09:00"]),
        ("cron(0 9 L-2 * ? *)", ["2026-01-29T09:00", "2026-02-26T09:00", "2026-03-29T09:00"]),
        ("cron(0 9 ? * 6L *)", ["2026-01-30T09:00", "2026-02-27T09:00", "2026-03-27T09:00"]),
        ("cron(0 9 3W * ? *)", ["2026-01-02T09:00", "2026-02-03T09:00", "2026-03-03T09:00"]),
        ("cron(0 9 1W 8 ? *)", ["2026-08-03T09:00", "2027-08-02T09:00", "2028-08-01T09:00"]),
        ("cron(0 9 LW * ? *)", ["2026-01-30T09:00", "2026-02-27T09:00", "2026-03-31T09:00"]),
        ("cron(0 0 29 FEB ? *)", ["2028-02-29T00:00", "2032-02-29T00:00", "2036-02-29T00:00"]),
        ("cron(0 9 ? * FRI-MON *)", ["2026-01-02T09:00", "2026-01-03T09:00", "2026-01-04T09:00"]),
        (
            "cron(5,10 8-9 1 JAN ? 2026)",
            ["2026-01-01T08:05", "2026-01-01T08:10", "2026-01-01T09:05"],
        ),
        ("cron(0 0 1 1 ? 2026)", []),
        ("cron(0 0 1 1 ? 2026-2027)", ["2027-01-01T00:00"]),
    ],
)
def test_cron_expressions_give_the_times_that_they_say(expression, times):
    assert next_times(expression, "2026-01-01T00:00") == times


def test_a_time_zone_moves_with_its_summer_time():
    expression = "cron(30 2 * * ? *) Europe/Berlin"
    assert next_times(expression, "2026-03-27T12:00") == [
        "2026-03-28T01:30",
        "2026-03-30T00:30",
        "2026-03-31T00:30",
    ]
    assert next_times(expression, "2026-10-24T12:00", 2) == [
        "2026-10-25T00:30",
        "2026-10-26T01:30",
    ]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "rate(0 minutes)",
        "rate(1 minutes)",
        "rate(5 minute)",
        "rate(5 seconds)",
        "rate(5 minutes) Europe/Berlin",
        "cron(0 10 * * *)",
        "cron(0 10 * * * *)",
        "cron(0 10 ? * ? *)",
        "cron(60 10 * * ? *)",
        "cron(0 24 * * ? *)",
        "cron(0 10 32 * ? *)",
        "cron(0 10 * 13 ? *)",
        "cron(0 10 ? * 8 *)",
        "cron(0 10 ? * MON#6 *)",
        "cron(0 10 * * ? 1969)",
        "cron(10-5 10 * * ? *)",
        "cron(0/0 10 * * ? *)",
        "cron(0 10 * * ? *) Nowhere/At-all",
        "cron(0 10 * * ? *) ../../etc/passwd",
        "at(2026-01-01T00:00:00)",
        "every minute",
    ],
)
def test_what_is_no_expression_is_refused_with_the_way_out(expression):
    with pytest.raises(BadSchedule, match=r"expected rate\(VALUE UNIT\)"):
        parsed(expression)


@given(
    st.sampled_from(["rate(7 minutes)", "cron(0/20 3-5 ? * TUE,L *)", "cron(59 23 L 2 ? *)"]),
    st.floats(0, 4e9),
)
def test_the_next_time_is_always_later_and_never_skips(expression, now):
    try:
        schedule = parsed(expression)
    except BadSchedule:
        assert "TUE,L" in expression
        return
    found = schedule.after(now, declared=0.0)
    assert found is not None
    assert found > now
    between = schedule.after((now + found) / 2, declared=0.0)
    assert between == found


@pytest.mark.parametrize("written", ["rate(1 minute)", "[rate(1 minute), cron(0 9 * * ? *) UTC]"])
def test_a_functions_schedule_is_one_expression_or_several(tmp_path, written):
    (tmp_path / "f.yaml").write_text(
        "apiVersion: wherry.dev/v1\nkind: Function\nmetadata: {name: f}\n"
        f"spec: {{code: ., handler: app.handler, schedule: {written}}}\n"
    )
    assert load(tmp_path).functions["f"].spec.schedule[0] == "rate(1 minute)"


def test_a_functions_schedule_that_is_no_expression_is_refused_with_its_line(tmp_path):
    (tmp_path / "f.yaml").write_text(
        "apiVersion: wherry.dev/v1\nkind: Function\nmetadata: {name: f}\n"
        "spec:\n  code: .\n  handler: app.handler\n  schedule: daily\n"
    )
    with pytest.raises(ConfigError, match=r"f\.yaml:7"):
        load(tmp_path)
