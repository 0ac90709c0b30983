"""Functions under measurement: a Lambda API in a process of its own and a client without a SDK."""

import asyncio
import base64
import io
import json
import statistics
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from parts.processes import ROOT, started

EMPTY = """
import time

def handler(event, context):
    return {"at": time.time()}
"""
"""The plain handler: what is measured around it is ours."""

_LOOK_AGAIN = 0.02
"""Seconds between two looks at a function that is being made: more often takes its CPU."""
FUNCTIONS = "/2015-03-31/functions"


def zipped(source: str) -> bytes:
    """Return a package with ``source`` as ``app.py``."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), source)
    return sink.getvalue()


@dataclass(frozen=True)
class Lambda:
    """A Lambda API.

    Attributes:
        url: Where it is.
        client: Keeps connections open.
        pid: The serving process.
    """

    url: str
    client: aiohttp.ClientSession
    pid: int

    async def asked(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[bytes, Any]:
        """Return the body and the headers of an answer; exit when it is an error."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        async with self.client.request(method, self.url + path, data=data, headers=headers) as said:
            text = await said.read()
            if said.status >= 400:
                sys.exit(f"{method} {path} answered {said.status} {text[:300]!r}")
            return text, said.headers

    async def create(self, name: str, source: str, **settings: Any) -> None:
        """Create a function and return when it is active."""
        await self.asked(
            "POST",
            FUNCTIONS,
            {
                "FunctionName": name,
                "Role": "arn:aws:iam::123456789012:role/bench",
                "Runtime": "python3.11",
                "Handler": "app.handler",
                "Code": {"ZipFile": base64.b64encode(zipped(source)).decode()},
            }
            | settings,
        )
        await self.settled(name)

    async def update(self, name: str, source: str) -> None:
        """Give a function another code and return when it serves."""
        code = {"ZipFile": base64.b64encode(zipped(source)).decode()}
        await self.asked("PUT", f"{FUNCTIONS}/{name}/code", code)
        await self.settled(name)

    async def settled(self, name: str) -> None:
        """Return when a function is active and no update is under way."""
        while True:
            said, _ = await self.asked("GET", f"{FUNCTIONS}/{name}/configuration")
            found = json.loads(said)
            if found["State"] == "Failed":
                sys.exit(f"function {name}: {found['StateReason']}")
            if found["State"] == "Active" and found["LastUpdateStatus"] == "Successful":
                return
            await asyncio.sleep(_LOOK_AGAIN)

    async def invoke(self, name: str, payload: bytes = b"{}") -> tuple[float, str, Any]:
        """Return seconds from call to answer, the kind of start and what the function gave."""
        began = time.perf_counter()
        text, headers = await self.asked("POST", f"{FUNCTIONS}/{name}/invocations", payload)
        taken = time.perf_counter() - began
        if "X-Amz-Function-Error" in headers:
            sys.exit(f"function {name}: {text[:300]!r}")
        return taken, headers.get("X-Wherry-Start", ""), json.loads(text or b"null")


@asynccontextmanager
async def served(kind: str, state: Path, **settings: Any) -> AsyncIterator[Lambda]:
    """Run a Lambda API on backend ``kind`` for the length of the block."""
    script = str(ROOT / "benchmarks/parts/faas_server.py")
    with started(sys.executable, script, kind, str(state), json.dumps(settings)) as process:
        url = process.stdout.readline().strip() if process.stdout else ""
        if not url:
            sys.exit(f"the Lambda API on {kind} did not start; run {script} by hand to see why")
        timeout = aiohttp.ClientTimeout(total=300)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as client:
            yield Lambda(url, client, process.pid)


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return median and 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    last = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 2),
        "p99_ms": round(last * 1000, 2),
        "n": len(ordered),
    }
