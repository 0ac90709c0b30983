"""What a folder of code seems to be: its runtime and its handler, from the names of its files."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from faas.code.packed import BuildError

PYTHON, NODE, OWN = "python3.11", "nodejs22.x", "provided.al2023"
"""What new functions of each kind are to run on."""
_NODE = (".mjs", ".js", ".cjs")
_LIKELY = ("app", "lambda_function", "index", "handler", "main")
_NAMES = ("handler", "lambda_handler", "main")


@dataclass(frozen=True, slots=True)
class Guess:
    """A runtime and a handler, and the file that they were guessed from."""

    runtime: str
    handler: str
    because: str


def guess(directory: Path, *, runtime: str | None = None, handler: str | None = None) -> Guess:
    """Return what the code in ``directory`` is, as far as it is not given.

    Raises:
        BuildError: It is not to be seen.
    """
    if not directory.is_dir():
        raise BuildError(f"function directory {directory}: not found, expected a directory")
    names = {path.name for path in directory.iterdir() if path.is_file()}
    if not runtime:
        runtime = _runtime(names)
    if handler:
        return Guess(runtime, handler, handler)
    if runtime.startswith("provided"):
        return Guess(runtime, "bootstrap", "bootstrap")
    endings = (".py",) if runtime.startswith("python") else _NODE
    for stem in (*_LIKELY, *sorted({Path(name).stem for name in names})):
        for ending in endings:
            if f"{stem}{ending}" in names:
                found = _handler(directory / f"{stem}{ending}")
                if found:
                    return Guess(runtime, f"{stem}.{found}", f"{stem}{ending}")
    raise BuildError(
        f"function directory {directory}: no file with a handler for {runtime}, expected such as "
        f"app{endings[0]} with a function named handler; name another with --handler FILE.FUNCTION"
    )


def _runtime(names: Collection[str]) -> str:
    if "bootstrap" in names:
        return OWN
    if "requirements.txt" in names or any(name.endswith(".py") for name in names):
        return PYTHON
    if "package.json" in names or any(name.endswith(_NODE) for name in names):
        return NODE
    return PYTHON


def _handler(path: Path) -> str | None:
    """Return the likeliest handler's name in a file."""
    text = path.read_text(errors="replace")
    python = path.suffix == ".py"
    for name in _NAMES:
        form = (
            rf"^(?:async\s+)?def\s+{name}\s*\(|^{name}\s*="
            if python
            else rf"exports\.{name}\b|export\s+(?:const|let|var|(?:async\s+)?function)\s+{name}\b"
            rf"|export\s*\{{[^}}]*\b{name}\b|module\.exports\s*=\s*\{{[^}}]*\b{name}\b"
        )
        if re.search(form, text, re.MULTILINE):
            return name
    return None
