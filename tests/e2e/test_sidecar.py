"""`wherry sidecar` as a user starts it: a process, a program and a real Envoy beside it."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest
from support.house import alive, command_of, descendants
from support.members import WHERRY, Mesh, ended, mesh, until

from xds.heartbeat import heartbeat
from xds.workload import Workload

pytestmark = pytest.mark.e2e

CONFIG = "services: {web: {}, other: {}}\n"


@pytest.fixture
async def house(tmp_path):
    async with mesh(tmp_path, CONFIG) as made:
        yield made


def below(process: asyncio.subprocess.Process, text: str) -> list[int]:
    return [p for p in descendants(process.pid) if text in command_of(p)]


async def gone(pids: list[int]) -> None:
    async def none_left() -> bool:
        return not any(alive(p) for p in pids)

    await until(none_left)


async def noted(file: Path, text: str) -> None:
    async def there() -> bool:
        return text in lines_of(file)

    await until(there)


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def script(text: str) -> list[str]:
    return ["--service", "web", "--port", "0", "--", sys.executable, "-c", text]


async def test_a_program_is_registered_when_it_listens_and_not_after_its_end(house: Mesh):
    process = await house.program("web")
    await house.joined(1)
    started = descendants(process.pid)
    assert len(started) >= 2
    assert await ended(process) == 143
    assert await house.members() == []
    await gone(started)


@pytest.mark.parametrize("status", [0, 3])
async def test_the_exit_status_of_the_program_is_passed_on(house: Mesh, status):
    process = await house.sidecar(*script(f"raise SystemExit({status})"))
    await process.communicate()
    assert process.returncode == status


async def test_a_program_killed_by_a_signal_gives_128_and_its_number(house: Mesh):
    process = await house.sidecar(*script("import os; os.kill(os.getpid(), 9)"))
    await process.communicate()
    assert process.returncode == 137


async def test_what_the_program_prints_goes_where_ours_goes(house: Mesh):
    text = "import sys; print('out'); print('err', file=sys.stderr); print(*sys.argv[1:])"
    process = await house.sidecar(*script(text), "--", "--port", "-x")
    out, err = await process.communicate()
    assert out.decode().split("\n")[:2] == ["out", "-- --port -x"]
    assert err.decode() == "err\n"


async def test_sigint_ends_both_and_says_130(house: Mesh):
    process = await house.program("web")
    await house.joined(1)
    assert await ended(process, signal.SIGINT) == 130
    assert await house.members() == []


async def test_signals_for_the_program_reach_it(house: Mesh, tmp_path):
    notes = tmp_path / "notes"
    process = await house.program("web", NOTES=str(notes))
    await house.joined(1)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
        process.send_signal(number)
        await noted(notes, number.name)
    await process.communicate()


async def test_an_envoy_that_is_killed_comes_back_and_so_does_the_registration(house: Mesh):
    process = await house.program("web")
    await house.joined(1)
    [before] = below(process, "--config-path")
    os.kill(before, signal.SIGKILL)
    await house.joined(0)
    await house.joined(1)
    [after] = below(process, "--config-path")
    assert after != before


async def test_a_program_that_never_listens_is_never_registered(house: Mesh):
    text = "import time; print('here', flush=True); time.sleep(600)"
    process = await house.sidecar(*script(text))
    await process.stdout.readline()

    async def connected() -> bool:
        return bool(house.pilot.streams())

    await until(connected)
    await house.settled()
    assert await house.members() == []


async def test_nothing_is_left_when_the_sidecar_itself_is_killed(house: Mesh):
    process = await house.program("web")
    await house.joined(1)
    started = descendants(process.pid)
    assert below(process, "--config-path")
    assert below(process, str(house.echo))
    await ended(process, signal.SIGKILL)
    await gone(started)


async def test_what_a_program_leaves_behind_ends_with_it(house: Mesh, tmp_path):
    notes = tmp_path / "child"
    text = (
        "import os, subprocess, time, pathlib;"
        "child = subprocess.Popen(['sleep', '600']);"
        f"pathlib.Path({str(notes)!r}).write_text(str(child.pid) + '\\n');"
        "time.sleep(600)"
    )
    process = await house.sidecar(*script(text))

    async def there() -> bool:
        return bool(lines_of(notes))

    await until(there)
    child = int(lines_of(notes)[0])
    assert alive(child)
    await ended(process)
    await gone([child])


@pytest.mark.parametrize("version", ["v1.2", "V1_x", "2024"])
async def test_any_label_value_is_a_version(house: Mesh, version):
    await house.sidecar(
        "--service", "web", "--port", "0", "--version", version,
        "--", sys.executable, str(house.echo),
    )  # fmt: skip
    await house.joined(1)


async def test_a_long_name_of_a_service_leaves_room_for_its_sockets(house: Mesh):
    name = ".".join(["a" * 60] * 4)
    process = await house.program(name)
    await house.joined(1)
    assert await ended(process) == 143


async def refused(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, WHERRY, "sidecar", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(20):
            out, err = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
            await process.wait()
    assert (process.returncode, out) == (1, b"")
    [line] = err.decode().splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--service", "web", "--port", "0"],
         "wherry: sidecar: no command, expected it behind --: -- python app.py"),
        (["--service", "web", "--port", "0", "--", "no-such-program"],
         "wherry: no-such-program: not found on PATH, expected an executable"),
        (["--service", "web", "--port", "0", "--", "./no/such"],
         "wherry: ./no/such: not found on PATH, expected an executable"),
        (["--service", "web", "--port", "0", "--xds", "nowhere", "--", "true"],
         "wherry: --xds: address 'nowhere': expected HOST:PORT with a port of 0 to 65535"),
        (["--service", "Web!", "--port", "0", "--", "true"],
         "wherry: workload service 'Web!': expected a DNS-1123 name"),
        (["--service", "web", "--port", "0", "--version", "a b", "--", "true"],
         "wherry: workload version 'a b': expected a label value"),
        (["--service", "web", "--port", "0", "--address", "8.8.8.8", "--", "true"],
         "wherry: sidecar: 8.8.8.8:0: Cannot assign requested address, expected"),
        (["--service", "web", "--port", "0", "--address", "here", "--", "true"],
         "wherry: sidecar: here:0: Name or service not known, expected an address of ours"),
    ],
)  # fmt: skip
async def test_what_cannot_start_is_said_in_one_line(arguments, said):
    assert (await refused(*arguments)).startswith(said)


async def test_a_pilot_that_does_not_answer_is_said_once_and_the_program_runs(tmp_path):
    process = await asyncio.create_subprocess_exec(
        sys.executable, WHERRY, "sidecar", "--xds", "127.0.0.1:1",
        *script("import time; print('here', flush=True); time.sleep(600)"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(20):
        assert await process.stdout.readline() == b"here\n"
        line = (await process.stderr.readline()).decode()
    assert "no Pilot at 127.0.0.1:1, expected one (wherry up, or --xds HOST:PORT)" in line
    process.send_signal(signal.SIGTERM)
    _, rest = await process.communicate()
    assert (process.returncode, rest) == (143, b"")


async def test_a_heartbeat_that_is_cancelled_twice_still_deregisters(tmp_path):
    async with mesh(tmp_path, "services: {s: {}}") as made:
        workload = Workload("one", "s", "v1", "127.0.0.1", 9)
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(heartbeat(str(made.pilot.address), workload))
            await made.joined(1)
            beat.cancel()
            for _ in range(3):
                await asyncio.sleep(0)
                beat.cancel()
        assert await made.members() == []
