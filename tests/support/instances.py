"""Instances of functions for tests: what to launch, what to call, on which backend."""

import asyncio
import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from faas.backends import chosen
from faas.backends.process import ProcessBackend
from faas.image.built import find
from faas.setup import setup
from faas.vm import Call, Launch
from wherry.cli.settings import cache_folder

CI = os.environ.get("CI") == "true"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:kitchen"


@dataclass
class Lines:
    """Collects log lines."""

    seen: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.seen.append(line)


@dataclass
class Pieces:
    """Takes a streamed response."""

    content_type: str = ""
    pieces: list[bytes] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Semaphore | None = None

    async def begin(self, content_type: str) -> None:
        self.content_type = content_type
        self.begun.set()

    async def write(self, piece: bytes) -> None:
        if self.room is not None:
            await self.room.acquire()
        self.pieces.append(piece)


def skip(said: str) -> None:
    """Skip a test for want of something; fail in CI."""
    pytest.fail(said) if CI else pytest.skip(said)


def tree(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files into a new folder below ``folder``; those of ``bin`` and such may be run."""
    root = folder / f"tree-{uuid.uuid4().hex[:8]}"
    root.mkdir()
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    return root


def launch(folder: Path, source: str = "", **fields) -> Launch:
    """Return what runs ``source`` as ``app.py``; ``fields`` win over the usual ones."""
    given = {
        "function": "kitchen",
        "version": "$LATEST",
        "arn": ARN,
        "digest": hashlib.sha256(source.encode()).hexdigest(),
        "handler": "app.handler",
        "runtime": "python3.11",
        "memory_mib": 128,
        "timeout": 10.0,
        "init_timeout": 30.0,
        "environment": {"GREETING": "hello"},
        "egress": None,
    }
    if "code" not in fields:
        given["code"] = tree(folder, {"app.py": source})
    return Launch(**given | fields)


def call(**event) -> Call:
    """Return a call that carries ``event`` and has ten seconds."""
    deadline = time.time_ns() // 1_000_000 + 10_000
    return Call(str(uuid.uuid4()), json.dumps(event).encode(), deadline, ARN)


async def answered(vm, **event):
    """Return what a call gives that must succeed."""
    answer = await vm.invoke(call(**event))
    assert answer.error is None, answer.payload
    return json.loads(answer.payload)


def machine_cache() -> Path:
    """Return this machine's cache."""
    return cache_folder()


def works(kind: str) -> str:
    """Return ``kind`` if this machine has it; otherwise skip."""
    if kind != "qemu" and find(kind) is None:
        skip(f"{kind} is not installed")
    if kind == "qemu":
        report = asyncio.run(setup(machine_cache()))
        if report.backend != "qemu":
            skip(str(report))
    return kind


@asynccontextmanager
async def opened(kind: str, cache: Path, run: Path):
    """Enter with a backend: ``qemu``, or ``bwrap`` or ``unshare`` for sandboxed processes."""
    match kind:
        case "qemu":
            async with chosen("qemu", cache=cache, run=run) as backend:
                yield backend
        case "bwrap":
            yield ProcessBackend(cache)
        case _:
            yield ProcessBackend(cache, bubblewrap=None)
