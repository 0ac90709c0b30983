"""Where the time of a restore goes, from the image to the first answer."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from statistics import median

from support.microvms import answered

from faas.backends.guest import Guest
from faas.backends.qemu_vm import QemuVm
from faas.vm import Backend, Vm, VmImage

STEPS = ("start", "load", "agent", "hooks", "first")
EMULATED = ("agent", "hooks", "first")
"""Steps that the guest itself takes: emulated, QEMU translates all of their code anew."""
Taken = dict[str, list[float]]


@contextmanager
def split(taken: Taken) -> Iterator[None]:
    """Note how long each step of a restore takes, for the length of the block."""
    steps = ((QemuVm, "load", "load"), (Guest, "restore", "agent"), (Guest, "proceeded", "hooks"))
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in steps]

    def timed(original: object, step: str) -> object:
        async def run(*arguments: object, **named: object) -> object:
            began = time.perf_counter()
            result = await original(*arguments, **named)  # type: ignore[operator]
            taken[step].append(time.perf_counter() - began)
            return result

        return run

    for (owner, name, step), (_, _, original) in zip(steps, originals, strict=True):
        setattr(owner, name, timed(original, step))
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


async def restored(
    backend: Backend, images: Sequence[VmImage], stack: AsyncExitStack
) -> tuple[list[Vm], Taken]:
    """Restore each image, let it answer once and freeze it; return them and what each step took."""
    taken: Taken = {step: [] for step in (*STEPS, "all")}
    vms = []
    with split(taken):
        for image in images:
            began = time.perf_counter()
            vm = await stack.enter_async_context(backend.restore(image, lambda _: None))
            there = time.perf_counter()
            await answered(vm, do="echo")
            taken["all"].append(time.perf_counter() - began)
            taken["first"].append(time.perf_counter() - there)
            steps = sum(taken[step][-1] for step in ("load", "agent", "hooks"))
            taken["start"].append(there - began - steps)
            await vm.freeze()
            vms.append(vm)
    return vms, taken


def medians(taken: Taken) -> Mapping[str, float]:
    """Return the median of each step in milliseconds, and of what is not the guest's own code.

    The latter is what remains about as it is where KVM runs the guest; the guest's own steps then
    take a small part of what they take emulated.
    """
    whole = zip(*(taken[step] for step in STEPS if step not in EMULATED), strict=True)
    return {f"{step}_ms": round(1000 * median(taken[step]), 1) for step in ("all", *STEPS)} | {
        "outside_guest_ms": round(1000 * median(map(sum, whole)), 1)
    }
