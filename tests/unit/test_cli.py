"""The command line says what is wrong in one line, with the way out, and never with a stack."""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import venv
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from rich.table import Table

from faas.app import Settings
from wherry.cli.function_logs import readable
from wherry.cli.lambdas import whole
from wherry.cli.owned import only
from wherry.cli.settings import LIMITS, PARTS, limits, listen
from wherry.config import load
from wherry.errors import StartError
from wherry.model.world import World

SCRIPTS = Path(sysconfig.get_path("scripts"))
GUESTBOOK = Path(__file__).parents[2] / "examples" / "guestbook"


def wherry(*arguments: str, cwd: Path | None = None, **environment: str):
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "wherry"), *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
        check=False,
    )


def refused(*arguments: str, cwd: Path | None = None) -> list[str]:
    said = wherry(*arguments, cwd=cwd)
    assert (said.returncode, said.stdout) == (1, ""), said
    lines = said.stderr.splitlines()
    assert "Traceback" not in said.stderr
    return [line.removeprefix("wherry: ") for line in lines]


def test_check_lists_what_a_good_folder_holds():
    said = wherry("check", str(GUESTBOOK))
    assert (said.returncode, said.stderr) == (0, "")
    assert ["HTTPRoute", "entries-split"] in [line.split()[:2] for line in said.stdout.splitlines()]


def test_check_says_every_place_that_is_wrong(tmp_path):
    (tmp_path / "a.yaml").write_text("services: {web: {rum: [x]}}\n")
    (tmp_path / "b.yaml").write_text("services:\n  entries:\n    service_port: 1\n  x: []\n")
    lines = refused("check", str(tmp_path))
    assert [line.removeprefix(f"{tmp_path}/").partition(": ")[0] for line in lines] == [
        "a.yaml:1",
        "b.yaml:3",
        "b.yaml:4",
    ]
    assert all(", expected " in line for line in lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "a.yaml:1: values nested deeper than 64, expected a flatter file"),
        ("a: &a [*a]", "a.yaml:1: values nested deeper than 64, expected a flatter file"),
        ("services:\n  web:\n    versions:\n      V1: {}\n",
         "a.yaml:4: version 'V1' of service 'web': 'web-V1' is no name, expected a-z"),
        ("kind: [HTTPRoute]", "a.yaml:1: unknown kind ['HTTPRoute'], expected 'HTTPRoute'"),
    ],
)  # fmt: skip
def test_a_strange_file_is_refused_with_its_line(tmp_path, text, said):
    (tmp_path / "a.yaml").write_text(text)
    [line] = refused("check", "a.yaml", cwd=tmp_path)
    assert line.startswith(said)


ROUTE = """\
services: {{web: {{}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: wherry
  listeners: [{{name: a, port: 80}}, {listener}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r}}
spec:
  parentRefs: [{{name: edge}}]
  rules: [{{matches: [{{path: {path}}}], timeouts: {{request: {timeout}}}}}]
"""
FINE = {"listener": "{name: b, port: 81}", "path": "{value: /a}", "timeout": "1s"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"path": "{value: a}"}, "15: spec.rules[0].matches[0].path: path 'a', expected one that"),
        ({"path": "{value: '/a?b'}"}, "path '/a?b', expected one that starts with '/'"),
        ({"path": "{value: /a/../b}"}, "path '/a/../b', expected one that starts with '/'"),
        ({"path": "{type: Exact, value: ''}"}, "path.value: '', expected "),
        ({"path": "{type: RegularExpression, value: '/(?=a)'}"}, "'(?=', expected RE2 syntax"),
        ({"path": r"{type: RegularExpression, value: '/(a)\1'}"}, r"'\\1', expected RE2 syntax"),
        ({"path": "{type: RegularExpression, value: '/('}"}, "expected RE2 syntax"),
        ({"timeout": "999999h"}, "duration '999999h', expected a form like"),
        ({"listener": "{name: a, port: 81}"},
         "8: listener 'a' a second time, expected each name once per gateway"),
        ({"listener": "{name: b, port: 80}"},
         "8: listener 'b' with port 80 and no host name, as another, expected each port and"),
    ],
)  # fmt: skip
def test_what_an_envoy_would_refuse_is_refused_before(tmp_path, wrong, said):
    file = tmp_path / "a.yaml"
    file.write_text(ROUTE.format(**FINE))
    load(file)
    file.write_text(ROUTE.format(**{**FINE, **wrong}))
    with pytest.raises(Exception, match="expected") as caught:
        load(file)
    assert said in str(caught.value)


FUNCTION = """\
apiVersion: wherry.dev/v1
kind: Function
metadata: {{name: f}}
spec: {{code: ., handler: app.handler, {more}}}
"""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("schedule: rate(1 minutes)", "schedule 'rate(1 minutes)': 1 minutes, expected"),
        ("schedule: [rate(1 minute), cron(1 2)]", "schedule 'cron(1 2)': 2 fields, expected"),
        (
            "environment: {AWS_REGION: x}",
            "Reserved keys used in this request: AWS_REGION, expected",
        ),
        (f"environment: {{LARGE: {'x' * 5000}}}", "exceeded the 4KB limit"),
    ],
)
def test_what_lambda_would_not_have_of_a_function_is_refused_before(tmp_path, more, said):
    (tmp_path / "f.yaml").write_text(FUNCTION.format(more=more))
    [line] = refused("check", "f.yaml", cwd=tmp_path)
    assert line.startswith("f.yaml:1: function f: ")
    assert said in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a b"], "folder 'a b': its name becomes the function's, expected 1 to 64 of"),
        (["node22.x"], "folder 'node22.x': its name becomes the function's"),
        (["f", "--runtime", "nodejs16.x"], "--runtime 'nodejs16.x': expected python3.11"),
        (["f", "--runtime", "cobol"], "--runtime 'cobol': expected python3.11"),
    ],
)
def test_what_could_not_be_deployed_is_not_begun(tmp_path, words, said):
    [line] = refused("fn", "init", *words, cwd=tmp_path)
    assert line.startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_a_logged_stack_is_shown_line_below_line():
    logged = "[ERROR] X: boom\rTraceback:\r  File a\r"
    assert readable(logged) == "[ERROR] X: boom\nTraceback:\n  File a"
    assert readable(logged, indent=2) == "[ERROR] X: boom\n  Traceback:\n    File a"
    assert readable("a\r\nb\n") == "a\nb\n"


def test_names_stand_whole_in_a_narrow_table():
    table = Table(*map(whole, ("layer", "description")), box=None)
    table.add_row("requirements-8022c26bd7fb7fb2", "what requirements.txt asks for")
    with (console := Console(width=40)).capture() as shown:
        console.print(table)
    assert "requirements-8022c26bd7fb7fb2" in shown.get()
    assert "…" not in shown.get()


def test_explain_prints_what_can_be_loaded_again(tmp_path):
    said = wherry("explain", str(GUESTBOOK))
    assert (said.returncode, said.stderr) == (0, "")
    (tmp_path / "functions").symlink_to(GUESTBOOK / "functions")
    (tmp_path / "all.yaml").write_text(said.stdout)
    again, first = load(tmp_path), load(GUESTBOOK)
    assert without_origins(again) == without_origins(first)
    assert {"Service", "Workload"} <= {d["kind"] for d in yaml.safe_load_all(said.stdout)}


def without_origins(world: World) -> dict:
    return {r.__class__.__name__ + "/" + r.name: r for r in world.resources()}


@pytest.mark.parametrize("variant", [(), ("--sotw",)])
def test_the_bootstrap_is_one_that_envoy_takes(tmp_path, variant):
    said = wherry(
        "bootstrap", "--service", "web", "--version", "v1.2", "--app-port", "8080",
        "--inbound-port", "15006", "--outbound-port", "15001", *variant,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    config = tmp_path / "envoy.json"
    config.write_text(said.stdout)
    checked = subprocess.run(
        [str(SCRIPTS / "envoy"), "--mode", "validate", "-c", str(config)],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    kind = json.loads(said.stdout)["dynamic_resources"]["ads_config"]["api_type"]
    assert kind == ("GRPC" if variant else "DELTA_GRPC")


def test_a_bootstrap_for_no_name_is_refused():
    [line] = refused(
        "bootstrap", "--service", "no name", "--app-port", "1", "--inbound-port", "2",
        "--outbound-port", "3",
    )  # fmt: skip
    assert line.startswith("workload service 'no name': expected a DNS-1123 name")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (
            "nope",
            "--listen 'nope': expected PART=HOST:PORT with one of gateway, admin, portal, xds",
        ),
        ("king=127.0.0.1:1", "--listen 'king=127.0.0.1:1': expected PART=HOST:PORT with one of"),
        ("xds=1", "--listen 'xds=1': address '1': expected HOST:PORT"),
        ("xds=127.0.0.1:99999", "--listen 'xds=127.0.0.1:99999': address '127.0.0.1:99999'"),
        ("xds=127.0.0.1:", "--listen 'xds=127.0.0.1:': address '127.0.0.1:'"),
    ],
)
def test_a_listen_option_that_names_no_place_is_refused(option, said):
    with pytest.raises(StartError) as caught:
        listen([option], free_ports=False)
    assert str(caught.value).startswith(said)


def test_free_ports_are_chosen_for_every_part_that_is_not_named():
    chosen = listen(["xds=127.0.0.1:7"], free_ports=True)
    assert chosen.of("xds").port == 7
    assert all(chosen.of(part).port == 0 for part in PARTS if part != "xds")


def test_a_part_that_is_none_is_refused_with_the_parts():
    [line] = refused("run", "king", str(GUESTBOOK))
    assert line == "run 'king': expected one of xds, policy, telemetry, gateway, faas"


@pytest.mark.parametrize(
    ("part", "listens"), [("xds", "xds"), ("policy", "policy"), ("telemetry", "metrics")]
)
def test_a_port_in_use_is_said_with_the_way_out(tmp_path, part, listens):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ["--listen", f"{listens}={place}", "--state", str(tmp_path / "s")]
        if part == "telemetry":
            options += ["--listen", "telemetry=127.0.0.1:0"]
        [line] = refused("run", part, str(GUESTBOOK), *options)
    assert line.startswith(f"{listens}: {place} is taken by another program, expected a free port")
    assert f"--listen {listens}=127.0.0.1:PORT" in line


def test_an_address_of_another_machine_is_said_in_one_line(tmp_path):
    options = ["--listen", "xds=8.8.8.8:1", "--state", str(tmp_path / "s")]
    [line] = refused("run", "xds", str(GUESTBOOK), *options)
    assert line.startswith("xds: 8.8.8.8:1: Cannot assign requested address, expected an address")


@pytest.mark.parametrize("part", ["xds", "policy", "telemetry"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_part_runs_alone_and_ends_quietly(tmp_path, part, number):
    moved = [a for p in PARTS for a in ("--listen", f"{p}=127.0.0.1:0")]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "wherry"), "run", part, str(GUESTBOOK), *moved,
         "--state", str(tmp_path / "s")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for name in (part, "metrics") if part == "telemetry" else (part,):
            assert process.stderr.readline().startswith(f"{name} serves at 127.0.0.1:")
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out, err) == (0, "", "")


def test_usage_errors_are_those_of_the_command_line():
    said = wherry("sidecar", "--port", "1", "--", "true")
    assert said.returncode == 2
    assert "Missing option '--service'" in said.stderr
    said = wherry("sidecar", "--service", "web", "--port", "70000", "--", "true")
    assert said.returncode == 2
    assert wherry("no-such-command").returncode == 2
    assert wherry("--help").returncode == 0


def test_a_state_folder_is_for_one_wherry_at_a_time(tmp_path):
    with (
        only(tmp_path / "s"),
        pytest.raises(StartError, match=r"in use by another wherry.*--state"),
        only(tmp_path / "s"),
    ):
        pass
    with only(tmp_path / "s"):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700


def test_setup_says_which_runtimes_it_can_prepare(tmp_path):
    said = wherry("faas", "setup", "--runtime", "nodejs18.x", WHERRY_CACHE=str(tmp_path))
    assert said.returncode == 1
    assert said.stderr == (
        "wherry: runtime nodejs18.x: not offered, expected one of nodejs22.x, nodejs24.x\n"
    )


def test_an_envoy_that_is_not_installed_is_said_with_how_to_get_it(tmp_path):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    path = [p for p in sys.path if p]
    program = f"import sys; sys.path[:0] = {path!r}; from wherry.cli import main; main()"
    said = subprocess.run(
        [str(tmp_path / "bare" / "bin" / "python"), "-c", program,
         "sidecar", "--service", "web", "--port", "1", "--", "true"],
        capture_output=True, text=True, timeout=50, check=False,
        env={**os.environ, "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert said.returncode == 1
    assert said.stderr == (
        "wherry: envoy: not found on PATH, expected an executable; "
        "install it with: pip install 'wherry[envoy]'\n"
    )


def test_every_limit_of_functions_can_be_set():
    names = {each.name for each in fields(Settings)}
    assert LIMITS.keys() <= names
    given = limits(["keep_idle=1.5", "instances=40", "freeze_after=0"])
    assert given == {"keep_idle": 1.5, "instances": 40, "freeze_after": 0.0}


@pytest.mark.parametrize(
    "option",
    ["instances", "instances=0", "instances=1.5", "keep_idle=-1", "drain=nan", "code_dir=/"],
)
def test_a_limit_that_is_none_is_refused_with_those_that_there_are(option):
    with pytest.raises(StartError, match="expected NAME=NUMBER") as refused:
        limits([option])
    assert "keep_idle (float)" in str(refused.value)
