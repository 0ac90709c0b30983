"""The files that every guest needs, laid out as it finds them, cached by content."""

import compileall
import hashlib
import os
import py_compile
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import faas.guest
from faas.image.publish import publish
from wherry.errors import StartError

RUNTIME = "awslambdaric"
_PLACES = {"runtime": "/var/runtime", "agent": "/var/wherry"}
"""Where guests find what."""
HOSTS = "127.0.0.1 localhost function sandbox sandbox.localdomain\n"
"""A guest's ``/etc/hosts``; extensions know the place where they listen as ``sandbox``."""
_RECIPE = "compiled"
"""Changes when the way from files to layout does."""
_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")
_WAY_OUT = "install it with: pip install 'wherry[faas]'"


def laid_out(cache: Path) -> Path:
    """Return a directory with ``runtime``, ``agent`` and ``hosts``.

    They become ``/var/runtime``, ``/var/wherry`` and ``/etc/hosts``.

    It is made once for each content of its files; concurrent callers are safe.

    Raises:
        StartError: awslambdaric is not installed.
    """
    files = dict(_runtime_files()) | dict(_agent_files())
    made = cache / f"guest-{_digest(files)[:16]}"
    if made.is_dir():
        os.utime(made)
        return made
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="guest-", suffix=".partial", dir=cache))
    try:
        scratch.chmod(0o755)
        for name, source in files.items():
            _copy(source, scratch, name)
        _compile(scratch)
        (scratch / "hosts").write_text(HOSTS)
        (scratch / "hosts").chmod(0o644)
        publish(scratch, made)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return made


def _runtime_files() -> Iterator[tuple[str, Path]]:
    pending, done = [RUNTIME], set[str]()
    while pending:
        name = pending.pop()
        if name in done:
            continue
        done.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            raise StartError(f"package {name}: not installed, expected; {_WAY_OUT}") from None
        for file in distribution.files or ():
            if file.suffix in {".py", ".so"}:
                yield f"runtime/{file}", Path(str(file.locate()))
        pending += [_name(each) for each in distribution.requires or () if "extra" not in each]
    yield "runtime/bootstrap.py", _GUEST / "bootstrap.py"


def _agent_files() -> Iterator[tuple[str, Path]]:
    yield "agent/faas/__init__.py", _GUEST.parent / "__init__.py"
    yield "agent/__main__.py", _GUEST / "__main__.py"
    for file in sorted(_GUEST.glob("*.py")):
        yield f"agent/faas/guest/{file.name}", file


def _name(requirement: str) -> str:
    match = _REQUIREMENT.match(requirement)
    assert match is not None, requirement  # noqa: S101
    return match.group()


def _digest(files: dict[str, Path]) -> str:
    digest = hashlib.sha256((_RECIPE + HOSTS).encode())
    for name, source in sorted(files.items()):
        content = hashlib.sha256(source.read_bytes()).digest()
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


def _copy(source: Path, root: Path, name: str) -> None:
    """Copy a file so that any user may read it, whatever the umask says."""
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)
    for parent in target.relative_to(root).parents:
        (root / parent).chmod(0o755)


def _compile(root: Path) -> None:
    """Compile all modules: a guest cannot keep what it compiles itself."""
    for name, there in _PLACES.items():
        compileall.compile_dir(
            root / name,
            quiet=2,
            stripdir=str(root / name),
            prependdir=there,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    for folder in root.rglob("__pycache__"):
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.chmod(0o644)


_GUEST = Path(faas.guest.__file__).parent
