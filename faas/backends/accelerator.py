"""Whether KVM can be tried here, and what an emulated guest must be told. Pure."""

import re

_FLAGS = frozenset({"vmx", "svm"})
_BOGOMIPS = re.compile(r"^bogomips\s*:\s*([0-9.]+)", re.MULTILINE)


def kvm_possible(cpuinfo: str, modules: str) -> bool:
    """Return whether KVM is worth a try: the processor has it and nothing stands in for it.

    A page-table KVM (``kvm_pvm``) opens and creates VMs, and never boots a guest.

    Args:
        cpuinfo: Text of ``/proc/cpuinfo``.
        modules: Text of ``/proc/modules``.
    """
    flags = {
        flag for line in cpuinfo.splitlines() if line.startswith("flags") for flag in line.split()
    }
    loaded = {line.split(" ", 1)[0] for line in modules.splitlines()}
    return bool(flags & _FLAGS) and "kvm_pvm" not in loaded


def tsc_khz(cpuinfo: str) -> int:
    """Return the rate of the host's time stamp counter, from its BogoMIPS (twice the MHz)."""
    match = _BOGOMIPS.search(cpuinfo)
    if match is None:
        raise ValueError("cpuinfo: no line with bogomips, expected an x86 processor")
    return round(float(match.group(1)) / 2 * 1000)
