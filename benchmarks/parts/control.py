"""Programs under measurement that take commands: a line of JSON in, a line of JSON out."""

import asyncio
import contextlib
import inspect
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from parts.processes import ROOT

LONGEST_LINE = 16 << 20
"""Most bytes of one command: a World of thousands of routes as text."""


class Child:
    """One such program, seen from outside; each call waits for the answer."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name, self.pid, self._process = name, process.pid, process

    def ask(self, verb: str, **values: Any) -> Any:
        """Send a command and return its answer; a program that failed ends the benchmark."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": verb, **values}) + "\n")
        self._process.stdin.flush()
        return self.answer(verb)

    def answer(self, verb: str) -> Any:
        """Return the next line that the program says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name}: ended while asked to {verb}, expected an answer")
        return json.loads(line)

    def cpu(self) -> float:
        """Return CPU seconds, user and system, of all its threads."""
        return float(self.ask("cost")["cpu_s"])

    def rss(self) -> int:
        """Return bytes of memory that it holds."""
        return int(self.ask("cost")["rss_bytes"])


@contextlib.contextmanager
def child(name: str, *arguments: object, core: int | None = None) -> Iterator[Child]:
    """Run ``parts/NAME.py`` for the length of the block; enter when it is ready.

    Args:
        name: The module, without its package.
        arguments: What it is told on its command line.
        core: The one core that it may use; None leaves it to the kernel.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", f"parts.{name}", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'benchmarks'}{os.pathsep}{ROOT}"},
    )
    if core is not None:
        os.sched_setaffinity(process.pid, {core % (os.cpu_count() or 1)})
    try:
        made = Child(name, process)
        made.answer("start")
        yield made
    finally:
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


async def answering(verbs: Mapping[str, Callable[..., Any]]) -> None:
    """Say that we are ready, then answer commands until nobody can give more."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    known = {"cost": _cost, **verbs}
    print(json.dumps("ready"), flush=True)
    while line := await reader.readline():
        values = json.loads(line)
        answer = known[values.pop("do")](**values)
        if inspect.isawaitable(answer):
            answer = await answer
        print(json.dumps(answer), flush=True)


def _cost() -> Mapping[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {"cpu_s": used.ru_utime + used.ru_stime, "rss_bytes": pages * resource.getpagesize()}
