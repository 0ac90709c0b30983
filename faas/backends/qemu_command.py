"""The command line of a microVM. Pure: descriptors and numbers in, arguments out."""

from dataclasses import dataclass

from faas.backends.cgroup import vcpus

OVERHEAD_MIB = 64
"""What the kernel and the agent take beside the function."""

TRANSLATED_MIB = 32
"""Room for translated code under TCG; when it is full QEMU starts over."""

DISKS = ("root", "guest", "code", "layers", "language")
"""What the guest reads, ``/dev/vda`` and on."""
TMP = "tmp"
"""What it writes to: the disk after these."""

_KERNEL = (
    "console=ttyS0 reboot=t panic=-1 quiet loglevel=0 8250.nr_uarts=1 nokaslr mitigations=off "
    "random.trust_cpu=on rdinit=/init psi=0 nowatchdog audit=0 lsm=yama cgroup_disable=memory"
)
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """How QEMU runs the guest's instructions.

    Attributes:
        name: ``tcg`` or ``kvm``.
        tsc_khz: The host's time stamp counter, for guests that cannot measure it (tcg).
    """

    name: str
    tsc_khz: int

    def cpu(self) -> str:
        """Return the guest's CPU model."""
        return "host" if self.name == "kvm" else "qemu64"

    def arguments(self) -> list[str]:
        """Return what QEMU is told."""
        room = "" if self.name == "kvm" else f",tb-size={TRANSLATED_MIB}"
        return ["-accel", self.name + room, "-cpu", self.cpu()]

    def kernel_arguments(self) -> str:
        """Return what the kernel must be told.

        Emulated, the counter runs as the host's does while the timers run late, and most boots
        hang at "Unable to calibrate against PIT"; so the kernel is told both rates.
        """
        if self.name == "kvm":
            return _KERNEL
        jiffies = self.tsc_khz * 1000 // 250
        return f"{_KERNEL} tsc_early_khz={self.tsc_khz} lpj={jiffies} no_timer_check tsc=reliable"


@dataclass(frozen=True, slots=True)
class Hardware:
    """One microVM.

    Attributes:
        program: QEMU.
        accelerator: How it runs.
        memory_mib: What its function may use.
        shared: Whether what the guest writes reaches the file that holds its memory.
        restored: Whether it waits for a saved state instead of booting.
    """

    program: str
    accelerator: Accelerator
    memory_mib: int
    shared: bool
    restored: bool

    @property
    def guest_mib(self) -> int:
        """All of the guest's memory."""
        return self.memory_mib + OVERHEAD_MIB

    def files(self) -> tuple[str, ...]:
        """Return the names of the files that QEMU is given, open."""
        boot = () if self.restored else ("kernel", "boot")
        return ("memory", *DISKS, TMP, *boot)

    def command(self, files: tuple[int, ...], channel: int, monitor: int) -> list[str]:
        """Return QEMU's command line.

        Args:
            files: Descriptors of what `files` names: QEMU's user may reach none by its path.
            channel: Descriptor of a socket to the agent's port.
            monitor: Descriptor of a socket for QMP.
        """
        at = dict(zip(self.files(), files, strict=True))
        share = "on" if self.shared else "off"
        memory = f"size={self.guest_mib}M,mem-path=/proc/self/fd/{at['memory']},share={share}"
        return [
            self.program,
            *("-M", "microvm,rtc=on,pit=on,pic=on,acpi=on,memory-backend=memory"),
            *self.accelerator.arguments(),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-sandbox", _SANDBOX),
            *("-m", str(self.guest_mib), "-smp", str(vcpus(self.memory_mib))),
            *("-object", f"memory-backend-file,id=memory,{memory}"),
            *(
                "-chardev",
                f"socket,id=monitor,fd={monitor}",
                "-mon",
                "chardev=monitor,mode=control",
            ),
            *("-chardev", "ringbuf,id=console,size=65536", "-serial", "chardev:console"),
            *self._start(at),
            *(argument for name in DISKS for argument in _read_only(name, at[name])),
            *_disk(TMP, f"cache=unsafe,file=/proc/self/fd/{at[TMP]}"),
            *("-device", "virtio-serial-device,max_ports=2"),
            *("-chardev", f"socket,id=channel,fd={channel}"),
            *("-device", "virtserialport,chardev=channel,name=wherry.0"),
        ]

    def _start(self, at: dict[str, int]) -> list[str]:
        """Return what it starts from; a kernel that runs already is in the memory."""
        if self.restored:
            return ["-incoming", "defer"]
        return [
            *("-kernel", f"/proc/self/fd/{at['kernel']}"),
            *("-initrd", f"/proc/self/fd/{at['boot']}"),
            *("-append", self.accelerator.kernel_arguments()),
        ]


def _read_only(name: str, file: int) -> list[str]:
    """Return a disk in a file that QEMU's user may not open itself."""
    return [
        *("-add-fd", f"fd={file},set={file}"),
        *_disk(name, f"readonly=on,file=/dev/fdset/{file}"),
    ]


def _disk(name: str, options: str) -> list[str]:
    """Return a disk."""
    return [
        *("-drive", f"if=none,id={name},format=raw,file.locking=off,{options}"),
        *("-device", f"virtio-blk-device,drive={name}"),
    ]
