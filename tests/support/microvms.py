"""microVMs of this machine for tests: whether there are any, a small function, and calls."""

import asyncio
import hashlib
import json
import os
import time
import uuid
from pathlib import Path

import pytest

from faas.setup import setup
from faas.vm import Call, Launch

ARN = "arn:aws:lambda:us-east-1:000000000000:function:kitchen"
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


def cache() -> Path:
    given = os.environ.get("WHERRY_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "wherry"


def ready() -> Path:
    """Return the cache once guests run from it; skip the test where none does."""
    report = asyncio.run(setup(cache()))
    if report.image is None:
        pytest.fail(str(report)) if os.environ.get("CI") == "true" else pytest.skip(str(report))
    return cache()


def kitchen(folder: Path, source: str = CODE, **fields) -> Launch:
    code = folder / f"code-{uuid.uuid4().hex[:8]}"
    code.mkdir(parents=True)
    (code / "app.py").write_text(source)
    given = {
        "function": "kitchen",
        "version": "$LATEST",
        "arn": ARN,
        "code": code,
        "digest": hashlib.sha256(source.encode()).hexdigest(),
        "handler": "app.handler",
        "runtime": "python3.11",
        "memory_mib": 128,
        "timeout": 10.0,
        "init_timeout": 30.0,
        "environment": {"GREETING": "hello"},
        "egress": None,
    }
    return Launch(**(given | fields))


def call(**event) -> Call:
    deadline = time.time_ns() // 1_000_000 + 10_000
    return Call(str(uuid.uuid4()), json.dumps(event).encode(), deadline, ARN)


async def answered(vm, **event):
    answer = await vm.invoke(call(**event))
    assert answer.error is None, answer.payload
    return json.loads(answer.payload)
