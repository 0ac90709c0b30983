"""microVMs of this machine for tests: whether there are any, a small function, and calls."""

import asyncio
from pathlib import Path

from faas.setup import setup
from faas.vm import Launch
from support.instances import ARN, answered, call, launch, machine_cache, skip

__all__ = ["ARN", "CODE", "answered", "call", "kitchen", "ready"]

CODE = """
import os, random, time, uuid

BORN = uuid.uuid4().hex

def handler(event, context):
    match event["do"]:
        case "born":
            return BORN
        case "dice":
            return [random.random(), os.urandom(16).hex(), str(uuid.uuid4())]
        case "time":
            return time.time()
        case "read":
            with open(event["path"]) as file:
                return file.read()
    return event
"""


def ready() -> Path:
    """Return the cache once guests run from it; skip the test where none does."""
    cache = machine_cache()
    report = asyncio.run(setup(cache))
    if report.image is None:
        skip(str(report))
    return cache


def kitchen(folder: Path, source: str = CODE, **fields) -> Launch:
    """Return what runs `CODE`; ``fields`` win over the usual ones."""
    folder.mkdir(parents=True, exist_ok=True)
    return launch(folder, source, **fields)
