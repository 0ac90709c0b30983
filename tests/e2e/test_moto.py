"""moto's own tests of AWS Lambda, run against Wherry; those that once passed must pass."""

import os
from pathlib import Path

import pytest
from support.aws_front import fronted
from support.moto import installed

from faas.app import Settings, running
from faas.backends import chosen
from wherry.clock import SystemClock
from wherry.store.memory import MemoryStore

pytestmark = pytest.mark.e2e

PASSING = Path(__file__).parents[1] / "moto" / "passing.txt"
TESTS = ["tests/test_awslambda"]


@pytest.mark.timeout(1500)
async def test_what_passed_of_motos_lambda_tests_passes(tmp_path):
    moto = installed()
    settings = Settings(
        code_dir=tmp_path / "code",
        run_dir=tmp_path / "run",
        region="us-west-2",
        account="123456789012",
        eager=False,
    )
    async with (
        moto.server() as others,
        chosen("process", cache=tmp_path / "cache", run=tmp_path) as backend,
        running(settings, MemoryStore(), backend, SystemClock()) as faas,
        fronted(faas.address.url, others) as endpoint,
    ):
        results = await moto.tested(TESTS, endpoint, tmp_path)
    passed = {name for name, verdict in results.items() if verdict == "passed"}
    wanted = set(PASSING.read_text().split())
    if os.environ.get("WHERRY_MOTO_LIST"):
        PASSING.write_text("".join(f"{name}\n" for name in sorted(passed)))
        (PASSING.parent / "output.txt").write_bytes((tmp_path / "output.txt").read_bytes())
    lost = sorted(wanted - passed)
    print(f"{len(passed)} of {len(results)} pass; new: {sorted(passed - wanted)}")
    assert not lost, (tmp_path / "output.txt").read_text()[-4000:]
