"""`wherry top` shows edges so that they can be read, and says what is wrong when it cannot."""

import asyncio
import io
import json

import aiohttp
import grpc.aio
import pytest
import typer
from aiohttp import web
from rich.console import Console
from typer.testing import CliRunner

from telemetry import wire
from telemetry.app import Settings, running
from wherry.cli.top import NOTHING_YET, NoTelemetry, fetch, top, view
from wherry.clock import SystemClock
from wherry.serve import Address, bound, listening

METHOD = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
NAMES = ("source", "destination", "destination_version", "requests", "errors")
FIGURES = ("rate", "error_rate", "p50", "p95")

app = typer.Typer()
app.command()(top)


def edge(*values):
    return dict(zip(NAMES + FIGURES, values, strict=True))


CALM = edge("web", "entries", "v1", 12043, 0, 90.21, 0.0, 2.31, 7.9)
FAILING = edge("web", "entries", "v2", 1332, 12, 9.8, 0.7, 2.5, 180.2)
QUIET = edge("ingress", "web", "unknown", 400, 0, 0.0, 0.0, None, None)
LONG = edge("fn-" + "x" * 60, "y" * 60, "v1", 1234567, 1, 12345.6, 0.01, 1234.5, 65000.0)


def lines(*edges, width=80, rows=None):
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(view(edges, width=width, rows=rows))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_an_edge_is_a_line_of_names_and_figures():
    assert lines(CALM, FAILING, QUIET) == [
        "FROM     TO          REQ/S  ERR %  P50 MS  P95 MS  REQUESTS  ERRORS",
        "web      entries:v1   90.2    0.0     2.3     7.9     12043       0",
        "web      entries:v2    9.8    7.1     2.5     180      1332      12",
        "ingress  web           0.0      -       -       -       400       0",
    ]


def test_long_names_give_way_to_the_figures_at_80_columns():
    [_, line] = lines(LONG)
    assert len(line) <= 80
    assert line.split() == [
        *("fn-xxxxxxxxx…", "yyyyyyyyyyyy…"),
        *("12345.6", "0.0", "1234", "65000", "1234567", "1"),
    ]


def test_what_does_not_fit_the_screen_is_counted():
    assert lines(CALM, FAILING, QUIET, rows=1)[2:] == ["and 2 more that are less busy"]


def test_without_edges_it_says_what_to_do():
    assert " ".join(lines()) == NOTHING_YET


def test_a_name_is_never_taken_for_markup():
    assert "[red]x" in lines(edge("[red]x", "y", "v1", 1, 0, 1.0, 0.0, 1.0, 1.0))[1]


async def invoke(*arguments):
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    return result.exit_code, result.output


@pytest.fixture
async def telemetry():
    async with running(Settings(), clock=SystemClock()) as service:
        yield service


async def test_it_prints_what_the_service_counted_once_where_there_is_no_terminal(telemetry):
    code, output = await invoke("--url", telemetry.http.url)
    assert (code, output.split()) == (0, NOTHING_YET.split())

    tags = {"reporter": "source", "source": "web", "destination": "entries"}
    entry = {
        "common_properties": {"custom_tags": tags},
        "response": {"response_code": {"value": 500}},
    }
    message = wire.MESSAGES["StreamAccessLogsMessage"](http_logs={"log_entry": [entry]})
    async with grpc.aio.insecure_channel(str(telemetry.grpc)) as channel:
        await channel.stream_unary(METHOD)(iter([message.SerializeToString()]))
    code, output = await invoke("--url", f"{telemetry.http.url}/")
    assert (code, output.splitlines()[1].split()[:4]) == (0, ["web", "entries", "1.0", "100.0"])
    code, output = await invoke("--url", telemetry.http.url, "--json")
    assert (code, [e["errors"] for e in json.loads(output)]) == (0, [1])


async def test_without_a_service_it_says_so_in_one_line_and_fails(telemetry):
    with listening("nobody", Address()) as sock:
        code, output = await invoke("--url", bound(sock).url)
    assert code == 1
    assert output.startswith("telemetry http://127.0.0.1:")
    assert output.endswith("start it with `wherry up`, or name another with --url\n")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({"status": 404}, "status 404"),
        ({"text": "<html>"}, "an answer of another form"),
        ({"text": '{"edges": 7}'}, "an answer of another form"),
        ({"text": " " * (5 << 20)}, "status 200 with"),
    ],
)
async def test_an_answer_of_another_program_is_refused(answer, found):
    async def edges(_):
        return web.Response(**answer)

    other = web.Application()
    other.router.add_get("/api/edges", edges)
    runner = web.AppRunner(other)
    await runner.setup()
    sock = listening("other", Address())
    await web.SockSite(runner, sock).start()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(NoTelemetry, match=found):
            await fetch(session, bound(sock).url)
    await runner.cleanup()
