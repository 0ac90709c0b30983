"""What the host tells the agent to run: the document of a LAUNCH frame."""

from typing import TypedDict


class Disk(TypedDict):
    """One disk to mount.

    Attributes:
        device: Such as ``/dev/vdc``.
        at: Folder.
        writable: Whether what is there may be changed.
    """

    device: str
    at: str
    writable: bool


class Order(TypedDict):
    """Everything that the agent needs to start a runtime.

    Attributes:
        kind: ``python``, ``node``, ``provided`` or ``container``.
        command: Program and arguments. Of ``python`` the arguments alone: the agent's own
            interpreter runs them. Empty for ``provided``: a bootstrap is looked for.
        wrapper: Program that gets the command as its arguments; empty: none.
        directory: Where the command starts.
        environment: All of the runtime's variables.
        root: Folder that is the root of all that runs; None: the agent's own.
        image: Disk with the root's content; None: ``root`` is there.
        disks: What to mount before anything runs.
        data_limit: Bytes of private memory; 0: the machine's own memory is the limit.
        processes: Most processes and threads of the runtime's user.
        uid: Whom to run it as; None: as the agent.
        function: Name, as extensions learn it.
        version: Of the function.
        handler: Of the function.
        account: Number of the account.
        memory_mib: What the function may use.
        initialization: ``on-demand``, ``provisioned-concurrency`` or ``snap-start``.
    """

    kind: str
    command: list[str]
    wrapper: str
    directory: str
    environment: dict[str, str]
    root: str | None
    image: str | None
    disks: list[Disk]
    data_limit: int
    processes: int
    uid: int | None
    function: str
    version: str
    handler: str
    account: str
    memory_mib: int
    initialization: str
