"""The command line of a microVM. Pure: paths and numbers in, arguments out."""

from dataclasses import dataclass
from pathlib import Path

OVERHEAD_MIB = 64
"""What the kernel and the agent take beside the function."""

CODE_BYTES = 512 << 20
"""What every code disk shows as its size: a snapshot holds the size, so all have the same."""

_KERNEL = (
    "console=ttyS0 reboot=t panic=-1 quiet loglevel=0 8250.nr_uarts=1 nokaslr mitigations=off "
    "random.trust_cpu=on rdinit=/init"
)


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
class Disks:
    """What the guest reads, in the order in which it sees them.

    Attributes:
        root: ``/dev/vda``.
        guest: ``/dev/vdb``.
        code: ``/dev/vdc``.
    """

    root: Path
    guest: Path
    code: Path

    def arguments(self) -> list[str]:
        """Return them as read-only devices."""
        return [
            argument
            for name, path in (("root", self.root), ("guest", self.guest), ("code", self.code))
            for argument in (
                *(
                    "-drive",
                    f"if=none,id={name},format=raw,readonly=on,file.locking=off,"
                    f"file={_quoted(path)}",
                ),
                *("-device", f"virtio-blk-device,drive={name}"),
            )
        ]


@dataclass(frozen=True, slots=True)
class Hardware:
    """One microVM.

    Attributes:
        program: QEMU.
        accelerator: How it runs.
        kernel: Uncompressed ELF kernel.
        boot: Archive that the kernel starts from.
        disks: What it reads.
        memory_mib: All of the guest's memory.
        memory: File that holds it.
        shared: Whether what the guest writes reaches the file.
    """

    program: str
    accelerator: Accelerator
    kernel: Path
    boot: Path
    disks: Disks
    memory_mib: int
    memory: Path
    shared: bool

    def command(self, channel: int, monitor: int, *, restored: bool) -> list[str]:
        """Return QEMU's command line.

        Args:
            channel: Descriptor of a socket to the agent's port.
            monitor: Descriptor of a socket for QMP.
            restored: Whether to wait for a snapshot instead of booting.
        """
        share = "on" if self.shared else "off"
        memory = f"size={self.memory_mib}M,mem-path={_quoted(self.memory)},share={share}"
        return [
            self.program,
            *("-M", "microvm,rtc=on,pit=on,pic=on,acpi=on,memory-backend=memory"),
            *("-accel", self.accelerator.name, "-cpu", self.accelerator.cpu()),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-m", str(self.memory_mib), "-object", f"memory-backend-file,id=memory,{memory}"),
            *(
                "-chardev",
                f"socket,id=monitor,fd={monitor}",
                "-mon",
                "chardev=monitor,mode=control",
            ),
            *("-chardev", "ringbuf,id=console,size=65536", "-serial", "chardev:console"),
            *("-kernel", str(self.kernel), "-initrd", str(self.boot)),
            *("-append", self.accelerator.kernel_arguments()),
            *self.disks.arguments(),
            *("-device", "virtio-serial-device,max_ports=2"),
            *("-chardev", f"socket,id=channel,fd={channel}"),
            *("-device", "virtserialport,chardev=channel,name=wherry.0"),
            *(("-incoming", "defer") if restored else ()),
        ]


def _quoted(path: Path) -> str:
    """Return a path as the value of an option: a comma would end it."""
    return str(path).replace(",", ",,")
