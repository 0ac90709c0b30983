"""moto's own tests of AWS Lambda, run against Wherry; those that once passed must pass."""

import os
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from support.aws_front import fronted
from support.moto import installed

from faas.app import Settings, running
from faas.backends import chosen
from wherry.store.memory import MemoryStore

pytestmark = pytest.mark.e2e

PASSING = Path(__file__).parents[1] / "moto" / "passing.txt"
REGIONS = ("us-west-2", "us-east-1", "us-east-2", "us-west-1", "eu-west-1", "ap-southeast-1")
TESTS = ["tests/test_awslambda"]


@pytest.mark.timeout(1500)
async def test_what_passed_of_motos_lambda_tests_passes(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    moto = installed()
    async with AsyncExitStack() as stack:
        others = await stack.enter_async_context(moto.server())
        run = stack.enter_context(tempfile.TemporaryDirectory(prefix="wherry-"))
        backend = await stack.enter_async_context(
            chosen("process", cache=tmp_path / "cache", run=Path(run))
        )
        urls = {}
        for region in REGIONS:
            settings = _settings(tmp_path / region, others, region)
            faas = await stack.enter_async_context(running(settings, MemoryStore(), backend))
            urls[region] = faas.address.url
        endpoint = await stack.enter_async_context(fronted(urls, others))
        results = await moto.tested(TESTS, endpoint, tmp_path)
    _compared(results, tmp_path / "output.txt")


def _compared(results: dict[str, str], output: Path) -> None:
    passed = {name for name, verdict in results.items() if verdict == "passed"}
    wanted = set(PASSING.read_text().split())
    print(f"{len(passed)} of {len(results)} pass; new: {sorted(passed - wanted)}")
    if listed := os.environ.get("WHERRY_MOTO_LIST"):
        PASSING.write_text("".join(f"{name}\n" for name in sorted(passed)))
        Path(listed).write_bytes(output.read_bytes())
        return
    assert not wanted - passed, output.read_text()[-4000:]


def _settings(folder: Path, others: str, region: str) -> Settings:
    return Settings(
        code_dir=folder / "code",
        run_dir=folder / "run",
        region=region,
        account="123456789012",
        s3_endpoint=others,
        eager=False,
    )
