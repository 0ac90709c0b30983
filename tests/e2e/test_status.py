"""What an Envoy refuses shows in `wherry status`, in a metric and in the log, until it is fixed."""

import json
import time
import urllib.request

import pytest
from support.house import house, run

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

GOOD = "path: {type: PathPrefix, value: /}"
BAD = "path: {type: RegularExpression, value: '/((a{100}){100}){10}'}"
"""Python reads it; RE2 does not, for it repeats more than a thousand times."""
CULPRIT = "/routes.yaml:19"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    with house(tmp_path_factory.mktemp("status"), "--backend", "process") as running:
        yield running


def status(mesh, *options):
    done = run("wherry", "status", *options, state=mesh.state, check=False)
    return done.returncode, done.stdout


def metric(mesh, name):
    url = mesh.addresses["pilot"] + "/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (our own port)
        lines = answer.read().decode().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if name in line
    }


def until(check, *, within=30.0):
    """Return what ``check`` returns once that is true; fail after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not (found := check()):
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.05)
    return found


def refusals(mesh):
    return json.loads(status(mesh, "--json")[1])["refusals"]


def test_every_proxy_is_a_row(mesh):
    until(lambda: status(mesh)[0] == 0)
    code, shown = status(mesh)
    head, *rows = shown.splitlines()
    assert head.split()[:3] == ["NODE", "CLIENT", "STREAMS"]
    assert {"CDS", "EDS", "LDS", "RDS", "AGE", "SCOPE", "SENT"} <= set(head.split())
    assert (code, len(rows)) == (0, 5)
    assert all("envoy 1.40.0" in row and "ads delta" in row for row in rows)
    assert not any("NACK" in row or "pending" in row for row in rows)
    said = json.loads(status(mesh, "--json")[1])
    versions = {t["version"] for p in said["proxies"] for s in p["streams"] for t in s["types"]}
    assert "" not in versions
    clients = metric(mesh, "wherry_xds_proxies{")
    assert clients == {'wherry_xds_proxies{client="envoy",version="1.40.0"}': 5.0}


def test_a_refused_resource_shows_with_its_file_and_line_until_it_is_fixed(mesh):
    mesh.edit("routes.yaml", GOOD, BAD)
    [refusal] = until(lambda: refusals(mesh))
    [likely] = [source for source in refusal["sources"] if source["likely"]]
    assert (refusal["type"], likely["kind"], likely["name"]) == ("rds", "HTTPRoute", "ingress")
    assert likely["where"].endswith(CULPRIT)

    code, shown = status(mesh)
    assert code == 1
    assert next(row for row in shown.splitlines() if "NACK" in row).startswith("gateway~ingress")
    below = " ".join(shown.partition("REFUSED")[2].split())
    for part in (refusal["node"], f"rds {refusal['resource']}", CULPRIT, refusal["reason"]):
        assert part in below

    [(labels, value)] = metric(mesh, "wherry_xds_refused_resource{").items()
    assert value == 1
    for label in (f'node="{refusal["node"]}"', 'type="rds"', f'resource="{refusal["resource"]}"'):
        assert label in labels
    assert CULPRIT in labels
    assert metric(mesh, 'wherry_xds_nacks_total{type="rds"}').popitem()[1] >= 1

    [logged] = [line for line in mesh.output if "configuration refused" in line]
    assert f"node={refusal['node']}" in logged
    assert refusal["resource"] in logged
    assert refusal["reason"] in logged

    done = run("wherry", "diff", "ingress", state=mesh.state, check=False)
    assert done.returncode == 1
    assert "1 differ" in done.stdout
    assert 'routes[0].match.safe_regex: {"regex": "/((a{100})' in done.stdout

    mesh.edit("routes.yaml", BAD, GOOD)
    until(lambda: not refusals(mesh))
    assert status(mesh)[0] == 0
    assert metric(mesh, "wherry_xds_refused_resource{") == {}
    assert run("wherry", "diff", "ingress", state=mesh.state).stdout.split()[1:3] == [
        "holds",
        "what",
    ]


def resources(mesh, *options):
    return json.loads(mesh.wherry("config", "ingress", "--json", *options))["resources"]


def test_what_the_pilot_says_of_a_proxy_is_what_its_envoy_says(mesh):
    until(lambda: not json.loads(status(mesh, "--json")[1])["refusals"])
    sent = {(each["type"], each["name"]): each for each in resources(mesh)}
    live = {(each["type"], each["name"]): each for each in resources(mesh, "--live")}
    assert {
        ("cds", name) for kind, name in live.keys() - sent.keys() if kind == "eds"
    } <= sent.keys()
    for key, each in sent.items():
        assert each["state"] == "held"
        if version := live[key]["version"]:  # endpoints have none there
            assert (key, version) == (key, each["acknowledged"])
    route = sent["rds", "gateway/ingress/8080"]["resource"]
    assert [host["name"] for host in route["virtual_hosts"]] == ["*"]
    assert {each["type"] for each in resources(mesh, "--type", "cds")} == {"cds"}


def test_a_proxy_that_nobody_has_is_answered_with_names_that_are_near(mesh):
    done = run("wherry", "config", "ingres5", state=mesh.state, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "proxy 'ingres5': none is connected" in done.stderr
    assert "gateway~ingress" in done.stderr
    done = run("wherry", "diff", "sidecar", state=mesh.state, check=False)
    assert "proxy 'sidecar': 3 are named so" in done.stderr


def test_where_no_wherry_runs_it_says_so(tmp_path):
    done = run("wherry", "status", state=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing runs here: start with wherry up" in done.stderr
    done = run("wherry", "config", "x", state=tmp_path, check=False)
    assert done.returncode == 1
    assert "nothing runs here" in done.stderr
