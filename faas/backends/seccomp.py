"""What a sandboxed function may not ask of the host's kernel, as a filter for seccomp. Pure.

Everything that changes the machine or looks into other processes is refused, and so is all that
runtimes never need and attackers like: new namespaces, mounts, keys, BPF, io_uring, tracing.

Source: https://docs.kernel.org/userspace-api/seccomp_filter.html
Source: https://docs.kernel.org/networking/filter.html
"""

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_DENIED: Mapping[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, None),
    "get_mempolicy": (239, 236),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sysfs": (139, None),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "vhangup": (153, 58),
    "vserver": (236, None),
}
"""Calls that fail with EPERM: their numbers on x86_64 and on aarch64."""

_CLONE = (56, 220)
_CLONE3 = (435, 435)
_IOCTL = (16, 29)
_PERSONALITY = (135, 92)
_SOCKET = (41, 198)
_NAMESPACES = 0x7E020080
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWTIME."""
_TYPING = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX, which type on somebody's terminal."""
_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK; vsock and the like pass by network namespaces."""
_PERSONALITIES = (0, 0x40000, 0xFFFFFFFF)
"""Linux, Linux without randomized addresses, and a question."""
_X32 = 0x40000000
"""The bit in calls of x86_64's little brother."""

_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16
_ALLOW = 0x7FFF0000
_ERROR = 0x00050000
_KILL = 0x80000000

_Code = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Machine:
    column: int
    audit: int


_MACHINES = {"x86_64": _Machine(0, 0xC000003E), "aarch64": _Machine(1, 0xC00000B7)}


def program(machine: str) -> bytes:
    """Return the filter as ``bwrap --seccomp`` and ``prctl`` take it.

    Args:
        machine: ``x86_64`` or ``aarch64``, as ``os.uname().machine`` says.

    Raises:
        ValueError: It is another one.
    """
    known = _MACHINES.get(machine)
    if known is None:
        raise ValueError(f"machine {machine!r}: no filter, expected {' or '.join(_MACHINES)}")
    at = known.column
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, known.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32), _fail(errno.ENOSYS)]
    for numbers in _DENIED.values():
        number = numbers[at]
        if number is not None:
            code += [(_EQUAL, 0, 1, number), _fail(errno.EPERM)]
    code += [(_EQUAL, 0, 1, _CLONE3[at]), _fail(errno.ENOSYS)]
    code += _examined(_CLONE[at], 0, [(_ANY_BIT, 0, 1, _NAMESPACES), _fail(errno.EPERM)])
    code += _examined(_IOCTL[at], 1, _refused(_TYPING, errno.EPERM))
    code += _examined(_SOCKET[at], 0, _only(_FAMILIES, errno.EAFNOSUPPORT))
    code += _examined(_PERSONALITY[at], 0, _only(_PERSONALITIES, errno.EPERM))
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(_INSTRUCTION.pack(*each) for each in code)


def _examined(number: int, argument: int, test: Sequence[_Code]) -> list[_Code]:
    """Return code that runs ``test`` on the low half of an argument of one call, then allows."""
    body = [(_LOAD, 0, 0, _ARGUMENT + 8 * argument), *test, (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(body), number), *body]


def _refused(values: Sequence[int], error: int) -> list[_Code]:
    return [code for value in values for code in ((_EQUAL, 0, 1, value), _fail(error))]


def _only(values: Sequence[int], error: int) -> list[_Code]:
    return [
        *((_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)),
        _fail(error),
    ]


def _fail(error: int) -> _Code:
    return (_RETURN, 0, 0, _ERROR | error)
