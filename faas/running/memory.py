"""What the host's kernel says of its memory."""

import re
from dataclasses import dataclass
from pathlib import Path

from faas.running.pool import Memory

FLOOR_SHARE = 0.05
"""Share of the host's memory that instances leave available."""
LEAST_FLOOR_MIB = 128
INSTANCE_MIB = 64
"""What an instance is taken to cost when room is counted in instances.

An idle clone has 28 to 35 MiB of its own; one that works on a call has more of its image.
"""
LEAST_INSTANCES, MOST_INSTANCES = 4, 2000

_STALLED = re.compile(r"^some avg10=([0-9.]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Host:
    """Where the kernel's figures stand.

    Attributes:
        proc: A mounted procfs.
    """

    proc: Path = Path("/proc")

    def memory(self) -> Memory | None:
        """Return the present figures; None when this kernel has none."""
        try:
            figures = self._meminfo()
            available, whole = figures["MemAvailable"], figures["MemTotal"]
        except (OSError, KeyError, ValueError):
            return None
        floor = max(LEAST_FLOOR_MIB, int(whole * FLOOR_SHARE))
        return Memory(available, floor, self._stalled())

    def instances(self) -> int:
        """Return how many instances the memory that is available now has room for."""
        memory = self.memory()
        if memory is None:
            return LEAST_INSTANCES
        room = (memory.available_mib - memory.floor_mib) // INSTANCE_MIB
        return min(MOST_INSTANCES, max(LEAST_INSTANCES, room))

    def _meminfo(self) -> dict[str, int]:
        """Return MiB by name."""
        lines = (self.proc / "meminfo").read_text().splitlines()
        pairs = (line.split(":", 1) for line in lines if line.endswith("kB"))
        return {name: int(value.split()[0]) // 1024 for name, value in pairs}

    def _stalled(self) -> float:
        """Return the share of time; 0 when the kernel does not account for it."""
        try:
            found = _STALLED.search((self.proc / "pressure" / "memory").read_text())
        except OSError:
            return 0.0
        return float(found[1]) if found else 0.0
