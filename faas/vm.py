"""The life of one VM: states, moves, the values that cross its edge and the backend contract."""

import re
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Protocol

from wherry.errors import WherryError

MAX_PAYLOAD = 6 * (1 << 20) + 100
"""Most bytes in one event or response.

Source: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html (6 MB; the
service itself counts 6291556 bytes).
"""

MEMORY_MIB = range(128, 10241)
"""What a function may ask for."""

Logs = Callable[[str], None]
"""Takes one line of a guest's stdout or stderr, without its end; must not block."""

_FUNCTION = re.compile(r"[A-Za-z0-9_-]{1,64}")


class VmState(Enum):
    """Where a VM is in its life."""

    BOOTING = auto()
    IDLE = auto()
    BUSY = auto()
    PAUSED = auto()
    SAVED = auto()
    GONE = auto()


class Move(Enum):
    """What may happen to a VM."""

    BOOTED = auto()
    CALL = auto()
    RETURN = auto()
    PAUSE = auto()
    RESUME = auto()
    SAVE = auto()
    DIE = auto()


NEXT: Mapping[tuple[VmState, Move], VmState] = {
    (VmState.BOOTING, Move.BOOTED): VmState.IDLE,
    (VmState.IDLE, Move.CALL): VmState.BUSY,
    (VmState.BUSY, Move.RETURN): VmState.IDLE,
    (VmState.IDLE, Move.PAUSE): VmState.PAUSED,
    (VmState.PAUSED, Move.RESUME): VmState.IDLE,
    (VmState.IDLE, Move.SAVE): VmState.SAVED,
} | {(state, Move.DIE): VmState.GONE for state in VmState}
"""Every legal move; a pair that is not here is an `IllegalMove`.

A saved VM can only die: its memory is the image that clones start from.
"""


class IllegalMove(WherryError):
    """A move that the VM's state does not allow."""

    def __init__(self, vm: str, state: VmState, move: Move) -> None:
        super().__init__(f"vm {vm}: cannot {move.name.lower()} while {state.name.lower()}")
        self.vm, self.state, self.move = vm, state, move


class BootFailed(WherryError):
    """The VM or sandbox itself did not come up; the function's code is not to blame."""

    def __init__(self, vm: str, found: str, expected: str = "a guest that says hello") -> None:
        super().__init__(f"vm {vm}: {found}, expected {expected}")
        self.vm = vm


class InitFailed(WherryError):
    """The runtime could not load the function.

    Attributes:
        error_type: Lambda's name for it, such as ``Runtime.ImportModuleError``.
        message: What the runtime said.
        payload: The runtime's error document, JSON.
    """

    def __init__(self, error_type: str, message: str, payload: bytes) -> None:
        super().__init__(f"function init: {error_type} {message}, expected a handler that loads")
        self.error_type, self.message, self.payload = error_type, message, payload


class InitTimeout(WherryError):
    """The function's code did not finish loading in time."""

    def __init__(self, function: str, seconds: float) -> None:
        super().__init__(f"function {function}: init over {seconds:g} s, expected less")
        self.function, self.seconds = function, seconds


class Crashed(WherryError):
    """The runtime or its VM ended in the middle of a call.

    Attributes:
        exit_status: What the runtime exited with; None when it did not exit by itself.
        signal: The signal that killed the runtime; None when none is known.
        error_type: Lambda's name for it: ``Runtime.ExitError``, or ``Extension.Crash`` and the
            like when an extension was the reason.
        out_of_memory: A kernel killed the runtime because the function's memory was used up;
            otherwise a SIGKILL was the function's own doing.
    """

    def __init__(
        self,
        vm: str,
        *,
        exit_status: int | None = None,
        signal: int | None = None,
        error_type: str = "Runtime.ExitError",
        out_of_memory: bool = False,
    ) -> None:
        if exit_status is not None:
            found = f"runtime exited with status {exit_status}"
        elif signal is not None:
            found = f"runtime was killed by signal {signal}"
        else:
            found = "the VM is gone"
        super().__init__(f"vm {vm}: {found}, expected a response")
        self.vm, self.exit_status, self.signal = vm, exit_status, signal
        self.error_type = error_type
        self.out_of_memory = out_of_memory


class NotAtRestorePoint(WherryError):
    """A snapshot was asked of a VM that has run calls, or whose runtime cannot be restored."""

    def __init__(self, vm: str) -> None:
        super().__init__(f"vm {vm}: has run a call, expected a VM fresh from init")
        self.vm = vm


@dataclass(frozen=True, slots=True)
class Container:
    """A container image as a function runs it, the function's own overrides applied.

    Attributes:
        root: Directory on the host with the image's whole file system, read-only.
        command: Entry point and arguments.
        environment: The image's own variables; the function's own win over them.
        working_directory: Where the command starts.
    """

    root: Path
    command: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: str = "/"


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything that a VM needs to run one version of one function.

    Attributes:
        function: Name, 1 to 64 of ``A-Z a-z 0-9 - _``.
        version: ``$LATEST`` or a number.
        arn: What the function sees as its own ARN.
        code: Directory on the host that becomes ``/var/task``, read-only, readable by others;
            of no interest with a container.
        digest: SHA-256 hex of the code package or the image.
        handler: As the runtime reads it; empty with a container.
        runtime: ``python3.11`` (the guest has Debian's), ``nodejs22.x``, ``provided.al2023``;
            empty with a container.
        memory_mib: 128 to 10240.
        timeout: Seconds for one call.
        init_timeout: Seconds for loading the function's code.
        environment: The function's own variables.
        egress: Unix socket of the HTTP proxy into the mesh; None: no way out.
        layers: Directories merged in order under ``/opt``; files of later ones win.
        tmp_mib: Size of ``/tmp``, 512 to 10240.
        container: The image that it runs; None: a runtime of Wherry's with ``code``.
        json_logs: Whether the runtime is told to log as JSON.
        log_level: What ``AWS_LAMBDA_LOG_LEVEL`` says; empty: not set.
        initialization: ``on-demand``, ``provisioned-concurrency`` or ``snap-start``: what the
            function is told of how it was started.
    """

    function: str
    version: str
    arn: str
    code: Path
    digest: str
    handler: str
    runtime: str
    memory_mib: int
    timeout: float
    init_timeout: float
    environment: Mapping[str, str]
    egress: Path | None
    layers: tuple[Path, ...] = ()
    tmp_mib: int = 512
    container: Container | None = None
    json_logs: bool = False
    log_level: str = ""
    initialization: str = "on-demand"

    def __post_init__(self) -> None:
        if not _FUNCTION.fullmatch(self.function):
            raise ValueError(
                f"function {self.function!r}: expected 1 to 64 of letters, digits, - and _"
            )
        if self.memory_mib not in MEMORY_MIB:
            raise ValueError(
                f"function {self.function}: memory {self.memory_mib} MiB, expected "
                f"{MEMORY_MIB.start} to {MEMORY_MIB.stop - 1}"
            )

    @property
    def region(self) -> str:
        """The region in its ARN."""
        return self.arn.split(":")[3]

    @property
    def account(self) -> str:
        """The account in its ARN."""
        return self.arn.split(":")[4]


@dataclass(frozen=True, slots=True)
class Call:
    """One invocation as the runtime sees it.

    Attributes:
        request_id: UUID.
        payload: JSON, at most `MAX_PAYLOAD` bytes.
        deadline_ms: Unix milliseconds when the function is out of time.
        arn: The ARN that was invoked.
        trace_id: X-Ray header; empty: none.
        client_context: JSON; empty: none.
        cognito_identity: JSON; empty: none.
    """

    request_id: str
    payload: bytes
    deadline_ms: int
    arn: str
    trace_id: str = ""
    client_context: str = ""
    cognito_identity: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave.

    Attributes:
        payload: The response, or the runtime's error document
            (``{"errorMessage", "errorType", "stackTrace"}``); empty when it went to a `Stream`.
        error: None on success; otherwise the error's type, ``Unhandled`` when it named none.
        content_type: Of the payload.
        used_mib: Most memory that the runtime and its children have used at any time since
            they started; None: not measured.
    """

    payload: bytes
    error: str | None
    content_type: str
    used_mib: int | None = None


class Stream(Protocol):
    """Takes a response piece by piece, as a runtime that streams posts it."""

    async def begin(self, content_type: str) -> None:
        """Note that a response begins; called once, before any piece."""
        ...

    async def write(self, piece: bytes) -> None:
        """Take a piece; returns when there is room for another, which slows the runtime down."""
        ...


class Vm(Protocol):
    """A booted guest that takes one call at a time."""

    @property
    def id(self) -> str:
        """Name for logs; unique within the backend's life."""
        ...

    @property
    def state(self) -> VmState:
        """Where the VM is in its life."""
        ...

    async def invoke(self, call: Call, stream: Stream | None = None) -> Answer:
        """Run the function once.

        With a ``stream`` a response that the runtime streams goes there as it comes, with no
        limit of `MAX_PAYLOAD`; one that comes whole is written there as one piece. An error
        before the first piece comes in the answer alone; a later one in the answer, after what
        was written. Without a ``stream`` a streamed response is collected.

        The caller bounds the time; a cancelled call leaves the VM busy for good, and the
        caller then leaves the VM's context.

        Raises:
            Crashed: The runtime or the VM ended before it answered.
            IllegalMove: The VM is not idle.
        """
        ...

    async def freeze(self) -> None:
        """Stop the guest; it uses no CPU until `thaw`."""
        ...

    async def thaw(self) -> None:
        """Let a frozen guest go on, with its clock put right."""
        ...

    async def gone(self) -> None:
        """Return when the VM has died, by itself or by force."""
        ...


class VmImage(Protocol):
    """The memory and devices of a VM that finished init; clones start from it.

    It stays until it is discarded, also when this process ends; see `Backend.kept`.
    """

    @property
    def launch(self) -> Launch:
        """What runs in it."""
        ...

    def discard(self) -> None:
        """Remove its files; clones that run already are not disturbed."""
        ...


class Backend(Protocol):
    """Something that runs functions apart from the host and from each other."""

    @property
    def name(self) -> str:
        """``qemu``, ``firecracker`` or ``process``."""
        ...

    @property
    def isolation(self) -> str:
        """One honest phrase on what stands between a function and the host."""
        ...

    def saves(self, launch: Launch) -> bool:
        """Return whether instances of ``launch`` start as clones of a snapshot.

        Where not, each is booted, and `snapshot` refuses.
        """
        ...

    def kept(self, launch: Launch) -> VmImage | None:
        """Return the image of an equal launch that was saved earlier, also by another process."""
        ...

    def forget(self, function: str, version: str | None, *, but: Collection[VmImage]) -> None:
        """Remove the images of a version that were saved earlier, also by another process.

        Args:
            function: Name.
            version: Of it; None: all.
            but: These stay.
        """
        ...

    def boot(self, launch: Launch, logs: Logs) -> AbstractAsyncContextManager[Vm]:
        """Enter when init is done; on exit, whatever the reason, leave nothing behind.

        Raises:
            BootFailed: The VM did not come up.
            InitFailed: The runtime could not load the function.
            InitTimeout: Loading took over ``launch.init_timeout``.
            Crashed: The runtime ended during init.
        """
        ...

    async def snapshot(self, vm: Vm) -> VmImage:
        """Save a VM that finished init and has run no call; afterwards it can only die.

        Raises:
            NotAtRestorePoint: The VM has run a call, or this backend saves none.
        """
        ...

    def restore(self, image: VmImage, logs: Logs) -> AbstractAsyncContextManager[Vm]:
        """Enter with a clone that has its own clock and entropy.

        Raises:
            BootFailed: The clone did not come up.
            InitFailed: One of the function's after-restore hooks failed.
        """
        ...


def step(vm: str, state: VmState, move: Move) -> VmState:
    """Return the state after ``move``.

    Raises:
        IllegalMove: The table has no such move.
    """
    try:
        return NEXT[state, move]
    except KeyError:
        raise IllegalMove(vm, state, move) from None
