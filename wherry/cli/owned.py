"""What a run owns and gives back: its tasks, its state folder, a folder for sockets."""

import asyncio
import fcntl
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from wherry.errors import StartError

_PREFIX = "wherry-"


@dataclass(frozen=True, slots=True)
class Tasks:
    """Tasks that end together when their owner's block does."""

    group: asyncio.TaskGroup
    started: list[asyncio.Task[object]]

    def start(self, work: Coroutine[None, None, object], name: str) -> asyncio.Task[object]:
        """Run ``work`` under ``name``; a failure ends the owner's block."""
        task = self.group.create_task(work, name=name)
        self.started.append(task)
        return task

    def spawn(self, work: Coroutine[None, None, object], name: str) -> None:
        """As `start`, for work that nobody waits for."""
        self.started.append(self.group.create_task(work, name=name))


@asynccontextmanager
async def owned() -> AsyncIterator[Tasks]:
    """Own tasks that end, all together, when the block does."""
    async with asyncio.TaskGroup() as group:
        tasks = Tasks(group, [])
        try:
            yield tasks
        finally:
            for task in tasks.started:
                task.cancel()


@contextmanager
def only(state: Path) -> Iterator[None]:
    """Make ``state`` ours alone until the block ends.

    Raises:
        StartError: Another Wherry uses it.
    """
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(
                f"state {state}: in use by another wherry, expected to be ours alone; "
                "end that one, or choose another folder with --state"
            ) from None
        yield


@contextmanager
def short_folder(note: Path | None = None) -> Iterator[Path]:
    """Return a folder with a short name, for unix sockets; it is gone after the block.

    Args:
        note: File that remembers the folder, so that after a run that was killed the next one
            removes it; for one run at a time. None: nothing remembers it.
    """
    if note is not None and note.exists():
        left = Path(note.read_text())
        if left.name.startswith(_PREFIX) and left.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    if note is not None:
        note.write_text(str(folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
