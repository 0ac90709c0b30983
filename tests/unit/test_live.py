"""Where the admin socket of an Envoy is, and what its dump says came by discovery."""

import json
import socket

import pytest
from aiohttp import web

from wherry.cli.live import NoAdmin, dumped, socket_of

NODE = "gateway~edge"


@pytest.fixture
def listens(tmp_path, monkeypatch):
    """Return what makes the node's admin socket in a folder of some name, and returns its path."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = []

    def listen(folder):
        path = tmp_path / folder / "gateway-edge.admin"
        path.parent.mkdir()
        made.append(socket.socket(socket.AF_UNIX))
        made[-1].bind(str(path))
        return path

    yield listen
    for each in made:
        each.close()


def test_the_envoy_of_the_wherry_that_is_asked_comes_first(tmp_path, listens):
    own, _ = listens("wherry-a"), listens("wherry-b")
    state = tmp_path / "state"
    state.mkdir()
    (state / "run").write_text(str(own.parent))
    assert socket_of(NODE, state) == own


def test_one_that_is_alone_is_found_and_of_several_none_is_taken(tmp_path, listens):
    with pytest.raises(NoAdmin, match="0 admin sockets gateway-edge"):
        socket_of(NODE, tmp_path)
    only = listens("wherry-a")
    assert socket_of(NODE, tmp_path) == only
    listens("wherry-b")
    with pytest.raises(NoAdmin, match="2 admin sockets"):
        socket_of(NODE, tmp_path)


TYPE = "type.googleapis.com/envoy."
CLUSTER = {"@type": f"{TYPE}config.cluster.v3.Cluster", "name": "c"}
LISTENER = {"@type": f"{TYPE}config.listener.v3.Listener", "name": "l"}
DUMP = {
    "configs": [
        {"@type": f"{TYPE}admin.v3.BootstrapConfigDump", "bootstrap": {}},
        {
            "@type": f"{TYPE}admin.v3.ClustersConfigDump",
            "version_info": "v",
            "static_clusters": [{"cluster": CLUSTER}],
            "dynamic_active_clusters": [{"version_info": "1", "cluster": CLUSTER}],
            "dynamic_warming_clusters": [{"version_info": "2", "cluster": CLUSTER}],
        },
        {
            "@type": f"{TYPE}admin.v3.ListenersConfigDump",
            "dynamic_listeners": [
                {
                    "name": "l",
                    "active_state": {"version_info": "3", "listener": LISTENER},
                    "error_state": {"details": "no", "version_info": "4"},
                },
                {"error_state": {"details": "bad", "failed_configuration": {"name": "m"}}},
            ],
        },
    ]
}


async def answering(path, text):
    async def dump(_):
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/config_dump", dump)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    return runner


async def test_a_dump_is_a_row_for_each_resource_that_came_by_discovery(tmp_path):
    runner = await answering(tmp_path / "a", json.dumps(DUMP))
    rows = await dumped(tmp_path / "a")
    assert [(r["type"], r["name"], r["state"], r["version"], r.get("refused")) for r in rows] == [
        ("cds", "c", "active", "1", None),
        ("cds", "c", "warming", "2", None),
        ("lds", "l", "active", "3", "no"),
        ("lds", "m", "refused", "", "bad"),
    ]
    assert rows[0]["resource"] == CLUSTER
    assert [r["name"] for r in await dumped(tmp_path / "a", "lds")] == ["l", "m"]
    await runner.cleanup()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"configs": [{}]}', '{"configs": 7}'])
async def test_another_answer_is_refused(tmp_path, text):
    runner = await answering(tmp_path / "a", text)
    with pytest.raises(NoAdmin, match="expected a configuration dump"):
        await dumped(tmp_path / "a")
    await runner.cleanup()


async def test_where_nobody_listens_it_says_so(tmp_path):
    with pytest.raises(NoAdmin, match="expected an Envoy that answers"):
        await dumped(tmp_path / "none")
