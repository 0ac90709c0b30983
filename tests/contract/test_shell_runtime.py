"""The example of a custom runtime, run as its README says."""

import json
import shutil
from pathlib import Path

import pytest
from support.instances import Lines, answered, call, launch

from faas.vm import InitFailed

EXAMPLE = Path(__file__).parents[2] / "examples" / "shell-runtime"


def shell(folder: Path, handler: str):
    code = folder / "code"
    shutil.copytree(EXAMPLE, code, ignore=shutil.ignore_patterns("README.md"))
    return launch(folder, code=code, runtime="provided.al2023", handler=handler, function="words")


async def test_the_shell_runtime_answers_logs_and_fails_as_it_says(backend, tmp_path):
    lines = Lines()
    async with backend.boot(shell(tmp_path, "words.count"), lines) as vm:
        assert await answered(vm, text="one two three") == {"words": 3, "by": "words"}
        assert lines.seen == ["counting 13 characters"]
        answer = await vm.invoke(call(nothing=1))
        assert answer.error == "Handler.Failed"
        assert json.loads(answer.payload)["errorMessage"] == "count ended with status 1"
        assert await answered(vm, text="once more") == {"words": 2, "by": "words"}


async def test_the_shell_runtime_says_when_its_handler_is_missing(backend, tmp_path):
    with pytest.raises(InitFailed) as caught:
        async with backend.boot(shell(tmp_path, "other.count"), lambda _: None):
            pass
    assert caught.value.error_type == "Runtime.NoSuchHandler"
