"""`wherry up` when something is in its way, when it is killed, and when its files change."""

import contextlib
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

import pytest
from support.house import alive, copied, descendants, house, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

WHERRY = str(Path(sysconfig.get_path("scripts")) / "wherry")


def until(check, *, within: float = 30.0):
    """Return what ``check`` returns once that is true; fail after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not (found := check()):
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.02)
    return found


def refused(folder: Path, *options: str) -> str:
    """Return the one line with which `wherry up` refuses to start."""
    done = run("wherry", "up", *options, state=folder / "state", check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return next(ln for ln in done.stderr.splitlines() if ln.startswith("wherry: "))


def test_a_wherry_that_is_killed_leaves_nothing_running(tmp_path):
    with house(tmp_path, "--backend", "process") as mesh:
        below = descendants(mesh.process.pid)
        assert len(below) >= 8  # five Envoys and three programs
        mesh.process.send_signal(signal.SIGKILL)
        mesh.process.wait(timeout=10)
        until(lambda: not [pid for pid in below if alive(pid)])


def test_a_wherry_that_was_killed_starts_again_without_its_dead_endpoints(tmp_path):
    folders = set()
    for _ in range(2):
        with house(tmp_path, "--backend", "process") as mesh:
            folders.add(Path((mesh.state / "run").read_text()))
            mesh.process.send_signal(signal.SIGKILL)
            mesh.process.wait(timeout=10)
    with house(tmp_path, "--backend", "process") as mesh:
        ingress = mesh.addresses["ingress"]

        def status() -> int:
            with urllib.request.urlopen(f"{ingress}/entries", timeout=5) as answer:  # noqa: S310
                return answer.status

        assert {status() for _ in range(30)} == {200}
        with contextlib.closing(sqlite3.connect(mesh.state / "wherry.db")) as records:
            found = records.execute("SELECT key FROM records WHERE key LIKE 'workload/%'")
            assert len(found.fetchall()) == 3
        assert len(folders) == 2
        assert not any(folder.exists() for folder in folders)


def test_a_function_that_went_from_the_files_while_wherry_was_down_goes_at_the_next_start(tmp_path):
    with house(tmp_path, "--backend", "process") as mesh:
        assert {"list", "add"} <= set(mesh.wherry("fn", "ls").split())
    services = copied(tmp_path) / "services.yaml"
    services.write_text(services.read_text().replace("name: add}", "name: sign}"))
    api = copied(tmp_path) / "api.yaml"
    api.write_text(api.read_text().replace("{function: add}", "{function: sign}"))
    with house(tmp_path, "--backend", "process") as mesh:
        names = set(mesh.wherry("fn", "ls").split())
        assert {"list", "sign"} <= names
        assert "add" not in names


def test_an_interrupt_while_starting_ends_what_was_started(tmp_path):
    source = copied(tmp_path)
    arguments = ["up", str(source), "--free-ports", "--state", str(tmp_path / "state")]
    with subprocess.Popen(
        [sys.executable, WHERRY, *arguments, "--backend", "process"], stderr=subprocess.DEVNULL
    ) as process:
        below = until(lambda: len(found := descendants(process.pid)) >= 2 and found)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) in {0, 130}
        until(lambda: not [pid for pid in below if alive(pid)])


def test_a_taken_port_is_said_in_one_line_with_the_way_out(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(
            tmp_path,
            *(str(copied(tmp_path)), "--free-ports", "--listen", f"gateway=127.0.0.1:{port}"),
        )
    assert f"gateway: 127.0.0.1:{port} is taken by another program" in line
    assert "--listen gateway=127.0.0.1:PORT" in line


def test_a_taken_ingress_port_is_said_too(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = ("--free-ports", "--listen", f"ingress=127.0.0.1:{port}", "--backend", "process")
        line = refused(tmp_path, str(copied(tmp_path)), *options)
    assert f"ingress: 127.0.0.1:{port} is taken" in line


def test_a_broken_file_is_said_by_line_before_anything_starts(tmp_path):
    source = copied(tmp_path)
    routes = source / "routes.yaml"
    routes.write_text(routes.read_text().replace("kind: HTTPRoute", "kind: HTTProute", 1))
    line = refused(tmp_path, str(source), "--free-ports")
    assert line.endswith("routes.yaml:3: unknown kind 'HTTProute', expected 'HTTPRoute'")
    assert not (tmp_path / "state").exists()


def test_a_program_that_is_not_there_is_named(tmp_path):
    (tmp_path / "mesh.yaml").write_text("services: {web: {run: [no-such-program]}}\n")
    line = refused(tmp_path, str(tmp_path / "mesh.yaml"), "--free-ports", "--backend", "process")
    assert "no-such-program: not found" in line


def test_two_wherries_do_not_share_a_state_folder(tmp_path):
    with house(tmp_path, "--backend", "process") as mesh:
        line = refused(tmp_path, str(mesh.source), "--free-ports", "--backend", "process")
        assert "in use by another wherry" in line


def test_programs_and_functions_follow_the_files(tmp_path):
    with house(tmp_path, "--backend", "process") as mesh:
        ingress = mesh.addresses["ingress"]
        before = set(mesh.wherry("fn", "ls").split())
        assert {"list", "add"} <= before
        services = mesh.source / "services.yaml"
        text = services.read_text().replace("  web:\n", "  shop: {run: [python, web.py]}\n  web:\n")
        services.write_text(text.replace("metadata: {name: add}", "metadata: {name: sign}"))
        mesh.edit("api.yaml", "{function: add}", "{function: sign}")
        mesh.edit("routes.yaml", "backendRefs: [{name: web}]", "backendRefs: [{name: shop}]")

        def deployed():
            names = set(mesh.wherry("fn", "ls").split())
            return "sign" in names and "add" not in names

        until(deployed)
        until(lambda: mesh.children("web.py")[1:])

        def answered():
            try:
                with urllib.request.urlopen(f"{ingress}/entries", timeout=5) as answer:  # noqa: S310
                    return answer.status == 200
            except OSError:
                return False

        until(answered)
        until(lambda: "shop" in mesh.wherry("top", "--once"))


def test_a_gateway_that_is_added_opens_its_port_and_one_that_goes_closes_it(tmp_path):
    with house(tmp_path, "--backend", "process") as mesh:
        more = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: second}
spec:
  gatewayClassName: wherry
  listeners: [{name: http, port: 8081}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: second}
spec:
  parentRefs: [{name: second}]
  rules: [{backendRefs: [{name: web}]}]
"""
        added = mesh.source / "second.yaml"
        added.write_text(more)
        [pid] = until(lambda: mesh.children("gateway-second.json"))
        added.unlink()
        until(lambda: not alive(pid))
