"""The guest's agent: joins the runtime, its output and its way out to the host's channel."""

import argparse
import fcntl
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from faas.guest.link import HostGone, Kind, Link
from faas.guest.output import Output
from faas.guest.proxy import Proxy
from faas.guest.runtime_api import RuntimeApi

NOT_STARTED = 126
"""Exit status that stands for a runtime that could not be started."""
_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207
_BUSYBOX = "/bin/busybox"
_MOMENT = struct.Struct("!Q")
_PORT_PATIENCE = 0.01


class Order(TypedDict):
    """What the host sends to start a runtime.

    Attributes:
        handler: ``module.function``.
        environment: All of the runtime's variables.
        data_limit: Bytes of private memory; 0: the machine's own memory is the limit.
        processes: Most processes and threads of the runtime's user.
        uid: Whom to run it as; None: as the agent.
        code: Disk to mount as ``/var/task``; None: it is there.
    """

    handler: str
    environment: dict[str, str]
    data_limit: int
    processes: int
    uid: int | None
    code: str | None


class Agent:
    """One runtime and everything around it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._output = Output(link)
        self._api = RuntimeApi(link, self._output)
        self._proxy = Proxy(link)
        self._event: tuple[int, dict[str, str], bytearray] | None = None

    def run(self) -> None:
        """Do what the host says until it is gone."""
        for service in (self._output.run, self._api.run, self._proxy.run):
            _start(service)
        try:
            for kind, stream, payload in self._link.frames():
                self._receive(kind, stream, payload)
        except HostGone:
            return

    def _receive(self, kind: Kind, stream: int, payload: bytes) -> None:
        match kind:
            case Kind.LAUNCH:
                order: Order = json.loads(payload)
                _start(lambda: self._launch(order))
            case Kind.CLOCK:
                _set_clock(payload)
            case Kind.RESTORE:
                _set_clock(payload)
                self._link.restart()
                self._proxy.reset()
                self._link.hello()
            case Kind.HOLD:
                self._link.hold()
            case Kind.PROCEED:
                self._api.proceed.put({}, b"")
            case Kind.EVENT:
                self._event = (stream, json.loads(payload), bytearray())
            case Kind.CREDIT:
                self._link.credit(stream, int.from_bytes(payload, "big"))
            case _ if self._event and stream == self._event[0]:
                self._receive_event(kind, *self._event, payload)
            case _:
                self._proxy.receive(kind, stream, payload)

    def _receive_event(
        self, kind: Kind, stream: int, headers: dict[str, str], body: bytearray, payload: bytes
    ) -> None:
        if kind is Kind.END:
            self._event = None
            self._link.forget(stream)
            self._api.events.put(headers, bytes(body))
        else:
            body += payload
            self._link.consumed(stream, len(payload))

    def _launch(self, order: Order) -> None:
        """Run the runtime to its end and report how it ended."""
        try:
            if order["code"]:
                _mount(order["code"])
            status = self._run(order)
        except (OSError, subprocess.CalledProcessError) as error:
            self._link.send_log(f"the runtime did not start: {error}".encode())
            status = NOT_STARTED
        self._output.flush()
        if status < 0:
            self._link.send_json(Kind.EXIT, signal=-status)
        else:
            self._link.send_json(Kind.EXIT, status=status)

    def _run(self, order: Order) -> int:
        return subprocess.Popen(  # noqa: S603
            [
                *(sys.executable, "-s", "-P", "/var/runtime/bootstrap.py"),
                *(order["handler"], str(order["data_limit"]), str(order["processes"])),
            ],
            cwd="/var/task",
            env=order["environment"],
            stdin=subprocess.DEVNULL,
            stdout=self._output.sink,
            stderr=self._output.sink,
            user=order["uid"],
            group=order["uid"],
            extra_groups=None if order["uid"] is None else [],
        ).wait()


def main() -> None:
    """Run as the first program of a guest: ``--fd N`` in a sandbox, ``--port`` in a VM."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int, help="an inherited socket to the host")
    where.add_argument("--port", action="store_true", help="the first virtio port")
    parser.add_argument("--uid", type=int, help="whom to become before anything else")
    options = parser.parse_args()
    if options.uid is not None:
        os.setgroups([])
        os.setresgid(options.uid, options.uid, options.uid)
        os.setresuid(options.uid, options.uid, options.uid)
    fd = _virtio_port() if options.port else options.fd
    link = Link(fd, reconnects=options.port)
    link.hello()
    Agent(link).run()


def _start(service: Callable[[], None]) -> None:
    threading.Thread(target=service, daemon=True).start()


def _virtio_port() -> int:
    while True:
        for port in Path("/dev").glob("vport*"):
            return os.open(port, os.O_RDWR)
        threading.Event().wait(_PORT_PATIENCE)


def _mount(disk: str) -> None:
    """Mount the code's disk, and first forget what was read from its forerunner."""
    for command in (
        ["blockdev", "--flushbufs", disk],
        ["mount", "-t", "ext4", "-o", "ro,nosuid,nodev", disk, "/var/task"],
    ):
        subprocess.run([_BUSYBOX, *command], check=True)  # noqa: S603


def _set_clock(payload: bytes) -> None:
    """Take over the host's time, and its entropy where there is some."""
    (moment,) = _MOMENT.unpack_from(payload)
    time.clock_settime_ns(time.CLOCK_REALTIME, moment)
    entropy = payload[_MOMENT.size :]
    if entropy:
        with Path("/dev/urandom").open("wb", buffering=0) as pool:
            pack = struct.pack("ii", len(entropy) * 8, len(entropy)) + entropy
            fcntl.ioctl(pool, _RNDADDENTROPY, pack)
            fcntl.ioctl(pool, _RNDRESEEDCRNG)
