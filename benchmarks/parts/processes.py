"""Processes under measurement, and what they cost."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
WHERRY = Path(sys.executable).parent / "wherry"


@contextlib.contextmanager
def started(*argv: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program for the length of the block; SIGINT ends it."""
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "benchmarks"), **environment},
    )
    try:
        yield process
    finally:
        process.send_signal(2)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()


@contextlib.contextmanager
def house(source: Path, state: Path, *options: str) -> Iterator[tuple[Mapping[str, str], float]]:
    """Run ``wherry up``; yield its addresses and the seconds until it was ready."""
    began = time.perf_counter()
    argv = [str(WHERRY), "up", str(source), "--json", "--free-ports", "--state", str(state)]
    with started(*argv, *options) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            sys.exit("wherry up did not become ready; run it by hand to see why")
        yield json.loads(line)["addresses"], time.perf_counter() - began


def cpu_seconds(pid: int) -> float:
    """Return user and system CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def closing(
    name: str, figures: Mapping[str, object], against: str, ratios: Mapping[str, float]
) -> None:
    """Print the line that ends every benchmark."""
    print(json.dumps({"name": name, "figures": figures, "against": against, "ratios": ratios}))
