"""Runs `wherry up` as a user does, for tests: one process, one line of JSON, SIGINT at the end."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
READY_WITHIN = 240.0
"""Seconds; emulated microVMs boot slowly on a busy machine."""


@dataclass(frozen=True)
class House:
    """A Wherry that runs."""

    process: subprocess.Popen[str]
    addresses: dict[str, str]
    source: Path
    state: Path
    output: list[str]

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace text in a file of the configuration, as an editor does."""
        path = self.source / file
        text = path.read_text()
        assert old in text, (old, text)
        staged = path.with_suffix(".staged")
        staged.write_text(text.replace(old, new))
        staged.replace(path)

    def wherry(self, *arguments: str) -> str:
        """Run a `wherry` command against this house; return what it prints."""
        return run("wherry", *arguments, state=self.state).stdout

    def key(self, consumer: str) -> str:
        """Return a new key, of an app of its own: one app has two at most."""
        app = f"app-{secrets.token_hex(4)}"
        return self.wherry("key", "create", consumer, "--app", app).strip()

    def children(self, text: str) -> list[int]:
        """Return the pids below this house whose command line holds ``text``."""
        return [p for p in descendants(self.process.pid) if text in command_of(p)]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            children = [int(p) for p in (task / "children").read_text().split()]
            for child in children:
                found += [child, *descendants(child)]
    return found


def run(program: str, *arguments: str, state: Path, check: bool = True):
    return subprocess.run(
        [str(Path(sysconfig.get_path("scripts")) / program), *arguments],
        env={**os.environ, "WHERRY_STATE": str(state), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=120,
        check=check,
    )


def copied(folder: Path, example: str = "guestbook") -> Path:
    """Return the copy of an example's folder in ``folder``, made now or before."""
    source = folder / example
    if source.exists():  # a house that stood here before
        return source
    shutil.copytree(EXAMPLES / example, source, ignore=shutil.ignore_patterns("__pycache__"))
    return source


@contextlib.contextmanager
def house(folder: Path, *options: str, example: str = "guestbook") -> Iterator[House]:
    """Run an example from a copy, on free ports."""
    source, state = copied(folder, example), folder / "state"
    program = Path(sysconfig.get_path("scripts")) / "wherry"
    arguments = ["up", str(source), "--json", "--free-ports", "--state", str(state), *options]
    process = subprocess.Popen(
        [sys.executable, str(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    output: list[str] = []
    reader = threading.Thread(target=lambda: output.extend(process.stderr), daemon=True)
    reader.start()
    watchdog = threading.Timer(READY_WITHIN, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
        watchdog.cancel()
        assert line, "".join(output)
        said = json.loads(line)
        assert said["ready"] is True
        yield House(process, said["addresses"], source, state, output)
        if process.poll() is not None:  # a test ended it by itself
            return
        before = descendants(process.pid)
        assert before
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0, "".join(output)
        assert not [p for p in before if Path(f"/proc/{p}").exists() and alive(p)]
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
        reader.join(timeout=5)
        process.stdout.close()
        process.stderr.close()


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
