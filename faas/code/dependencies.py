"""What a function's folder asks for beside its own files: resolved once, kept by its text."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from faas.code.packed import BuildError
from wherry.errors import MissingBinary

Progress = Callable[[str], None]
"""Takes one line on what is being done; may be called from a thread."""

PYTHON = "3.11"
"""The Python that functions run on, whatever runs Wherry."""
PATIENCE = 600.0
"""Seconds that pip or npm may take."""
_WHEEL = re.compile(r"(?:Using cached|Downloading|Processing) (?:.*/)?(\S+\.whl)\S*(?: \((.*)\))?")
_TAGS = ("2014", "_2_28", "_2_34")
_LOCK = "package-lock.json"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for.

    Attributes:
        file: The file that asks for it.
        name: Names the result: it changes with the file's text, the runtime and the machine.
        folder: Where the result stands in a layer.
    """

    file: Path
    name: str
    folder: str


def wanted(directory: Path, runtime: str) -> Wanted | None:
    """Return what the folder of a function of that runtime asks for; None: nothing."""
    requirements, package = directory / "requirements.txt", directory / "package.json"
    if runtime.startswith("python") and requirements.is_file():
        text = requirements.read_bytes()
        if any(line.strip() and not line.strip().startswith(b"#") for line in text.splitlines()):
            return Wanted(requirements, f"requirements-{_key(PYTHON, text)}", "python")
    if runtime.startswith("nodejs") and package.is_file():
        lock = directory / _LOCK
        text = package.read_bytes()
        if _dependencies(package):
            locked = lock.read_bytes() if lock.is_file() else b""
            name = f"packages-{_key(runtime, text, locked)}"
            return Wanted(package, name, "nodejs/node_modules")
    return None


def resolved(asked: Wanted, cache_dir: Path, progress: Progress) -> Path:
    """Return a folder with what is asked for; done once for each name. Blocks.

    Nothing is compiled and no script of a package is run: only wheels are taken, and npm runs
    without scripts.

    Raises:
        BuildError: It cannot be had.
        MissingBinary: There is no pip, or no npm.
    """
    target = cache_dir / asked.name
    if target.is_dir():
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    progress(f"installing {asked.file}")
    with tempfile.TemporaryDirectory(dir=cache_dir, prefix=".installing-") as temporary:
        staged = Path(temporary) / "staged"
        staged.mkdir()
        if asked.folder == "python":
            _pip(asked.file, staged, progress)
        else:
            staged = _npm(asked.file, staged, progress)
        for each in [*staged.rglob("__pycache__"), *staged.rglob(".bin"), staged / "bin"]:
            shutil.rmtree(each, ignore_errors=True)
        if not target.is_dir():
            staged.rename(target)
    progress(f"installed {asked.file}")
    return target


def _key(*parts: str | bytes) -> str:
    content = [part.encode() if isinstance(part, str) else part for part in parts]
    return hashlib.sha256(b"\0".join([os.uname().machine.encode(), *content])).hexdigest()[:16]


def _dependencies(package: Path) -> bool:
    try:
        said = json.loads(package.read_bytes())
        return bool(said.get("dependencies"))
    except (ValueError, AttributeError, RecursionError) as error:
        raise BuildError(f"{package}: {error}, expected a package.json as npm reads it") from None


def _pip(requirements: Path, target: Path, progress: Progress) -> None:
    platforms = [f"--platform=manylinux{tag}_{os.uname().machine}" for tag in _TAGS]
    command = [*_pip_program(), "install", "--no-input", "--no-compile", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={PYTHON}", *platforms, "--no-color"]
    command += [f"--target={target}", f"--requirement={requirements.resolve()}"]

    def said(line: str) -> None:
        wheel = _WHEEL.search(line)
        if wheel is not None:
            progress(f"  {wheel[1]}" + (f" ({wheel[2]})" if wheel[2] else ""))

    status, errors = _run(command, requirements.parent, said)
    if status:
        found = [line for line in errors if line.startswith("ERROR")]
        raise BuildError(
            f"requirements {requirements}: pip said {' '.join(found or errors[-5:])}, "
            f"expected wheels for Python {PYTHON}; what has no wheel can be put into the directory"
        )


def _npm(package: Path, target: Path, progress: Progress) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise MissingBinary("npm", "install it to deploy functions whose package.json asks for any")
    shutil.copyfile(package, target / package.name)
    locked = (package.parent / _LOCK).is_file()
    if locked:
        shutil.copyfile(package.parent / _LOCK, target / _LOCK)
    command = [
        npm,
        "ci" if locked else "install",
        "--omit=dev",
        "--ignore-scripts",
        "--install-links",
    ]
    command += ["--no-audit", "--no-fund", "--no-update-notifier", "--no-progress"]
    status, errors = _run(command, target, lambda _: None)
    if status:
        found = [line for line in errors if "npm error" in line or "ERR!" in line]
        raise BuildError(
            f"packages {package}: npm said {' '.join((found or errors)[:5])}, expected packages "
            "that can be installed without scripts"
        )
    modules = target / "node_modules"
    modules.mkdir(exist_ok=True)
    for each in sorted(modules.glob("*")):
        if not each.name.startswith("."):
            progress(f"  {each.name}")
    return modules


def _run(
    command: Sequence[str], folder: Path, said: Callable[[str], None]
) -> tuple[int, list[str]]:
    """Run a program, tell its lines as they come, and return its status and its errors."""
    errors: list[str] = []
    with subprocess.Popen(  # noqa: S603
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(PATIENCE, end)
        reader = threading.Thread(target=errors.extend, args=(process.stderr,), name="errors")
        timer.start()
        reader.start()
        try:
            for line in process.stdout:
                said(line.rstrip())
        except BaseException:
            process.kill()
            raise
        finally:
            reader.join()
            status = process.wait()
            timer.cancel()
    if late.is_set():
        raise BuildError(f"{command[0]}: over {PATIENCE:g} s, expected less")
    return status, [line.rstrip() for line in errors]


def _pip_program() -> list[str]:
    """Return how pip is run: this Python's own, else any on PATH; it only fetches wheels."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    if found is None:
        raise MissingBinary("pip", "install it to deploy functions that have requirements")
    return [found]
