"""Copies of a VM's memory: whole, with their holes, and from one file system to another."""

import os
import tempfile
from pathlib import Path

import pytest

from faas.backends.sparse import sparse_copy

PIECE = 1 << 16


@pytest.fixture(params=["beside", "elsewhere"])
def target(request, tmp_path):
    """A file on the same file system, and one on another."""
    if request.param == "beside":
        yield tmp_path / "copy"
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        assert Path(folder).stat().st_dev != tmp_path.stat().st_dev
        yield Path(folder) / "copy"


def test_a_copy_holds_the_same_bytes_and_no_holes_filled(tmp_path, target):
    source = tmp_path / "memory"
    with source.open("wb") as file:
        for place in (0, 40, 41, 90):
            file.seek(place * PIECE)
            file.write(os.urandom(PIECE))
        file.truncate(100 * PIECE)
    sparse_copy(source, target)
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 20 * PIECE
