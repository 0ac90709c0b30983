"""Layers merged in order into one tree, as ``/opt`` shows them."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from faas.image.built import used
from faas.image.publish import publish


def merged(layers: Sequence[Path], cache: Path) -> Path | None:
    """Return a folder with the content of all ``layers``, later ones over earlier ones.

    Layers never change once they have a path. One layer is its own result; several are merged
    once, by links where the file system allows it, into a folder of ``cache``. None: no layers.
    """
    if not layers:
        return None
    if len(layers) == 1:
        return layers[0]
    key = hashlib.sha256("\0".join(map(str, layers)).encode()).hexdigest()[:24]
    made = cache / f"opt-{key}"
    if used(made):
        return made
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="opt-", suffix=".partial", dir=cache))
    try:
        scratch.chmod(0o755)
        for layer in layers:
            _over(layer, scratch)
        publish(scratch, made)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return made


def _over(layer: Path, target: Path) -> None:
    """Put the content of ``layer`` into ``target``; what is in the way gives way."""
    for source in sorted(layer.iterdir()):
        into = target / source.name
        if source.is_dir() and not source.is_symlink():
            if into.is_symlink() or (into.exists() and not into.is_dir()):
                into.unlink()
            into.mkdir(exist_ok=True)
            into.chmod(0o755)
            _over(source, into)
            continue
        if into.is_dir() and not into.is_symlink():
            shutil.rmtree(into)
        into.unlink(missing_ok=True)
        _link(source, into)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
            raise
        shutil.copy2(source, target, follow_symlinks=False)
