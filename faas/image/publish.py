"""Folders that several may make at once and that are there whole or not at all."""

from pathlib import Path


def publish(scratch: Path, made: Path) -> None:
    """Let what was made in ``scratch`` be ``made``; another's that was quicker is as good.

    Raises:
        OSError: It cannot be put there, and nobody else has put it there.
    """
    try:
        scratch.rename(made)
    except OSError:
        if not made.is_dir():
            raise
