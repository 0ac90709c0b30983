"""Backends that the contracts of functions are held against."""

import pytest
from support.instances import machine_cache, opened, works


@pytest.fixture(scope="session", params=["bwrap", "qemu"])
def kind(request) -> str:
    """A backend that works on this machine."""
    return works(request.param)


@pytest.fixture
async def backend(kind, tmp_path):
    """A backend of that kind."""
    async with opened(kind, machine_cache(), tmp_path / "run") as backend:
        yield backend
