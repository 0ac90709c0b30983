"""The guest's agent: joins the function's processes and its way out to the host's channel."""

import argparse
import fcntl
import json
import os
import struct
import sys
import threading
import time
from collections.abc import Callable

from faas.guest.instance import Instance
from faas.guest.link import Kind, Link
from faas.guest.order import Order
from faas.guest.proxy import Proxy
from faas.guest.server import Server
from faas.guest.spawn import prefer_as_victim
from faas.guest.wire import HostGone, Port, Stream, Wire, vsock

_RNDADDENTROPY = 0x40085203
_RNDRESEEDCRNG = 0x5207
_MOMENT = struct.Struct("!Q")
_ENTROPY = struct.Struct("ii")
_RUNTIME = (
    *("-s", "-P", "-c"),
    "import awslambdaric.bootstrap, awslambdaric.lambda_runtime_client, runtime_client, tempfile",
)
"""What loads what Python's runtime needs, and ends."""
_PLACE = {"PYTHONPATH": "/var/runtime", "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"}


class Agent:
    """One instance and its ways to the host."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._instance = Instance(link)
        self._server = Server(self._instance.answer)
        self._proxy = Proxy(link)
        self._self = _Self()
        self._event: tuple[int, dict[str, str], bytearray] | None = None

    def run(self) -> None:
        """Do what the host says until it is gone."""
        for service in (*self._instance.services(), self._server.run, self._proxy.run):
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
                _start(lambda: self._instance.launch(order))
            case Kind.SHUTDOWN:
                end = json.loads(payload)
                _start(lambda: self._instance.shut_down(end["reason"], end["seconds"]))
            case Kind.CLOCK:
                self._self.take(payload)
            case Kind.RESTORE:
                self._self.take(payload)
                self._link.restart()
                self._proxy.reset()
                self._link.hello()
            case Kind.HOLD:
                self._self.prepare()
                self._link.hold()
            case Kind.PROCEED:
                self._instance.api.proceed.put({}, b"")
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
            self._instance.invoke(headers, bytes(body))
        else:
            body += payload
            self._link.consumed(stream, len(payload))


def main() -> None:
    """Run as the first program of a guest: ``--fd N`` in a sandbox, otherwise in a VM."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int, help="an inherited socket to the host")
    where.add_argument("--port", action="store_true", help="the first virtio port")
    where.add_argument("--vsock", type=int, help="a vsock port that the host connects to")
    parser.add_argument("--uid", type=int, help="whom to become before anything else")
    options = parser.parse_args()
    if options.fd is not None:
        os.set_inheritable(options.fd, False)
        prefer_as_victim()
    if options.uid is not None:
        os.setgroups([])
        os.setresgid(options.uid, options.uid, options.uid)
        os.setresuid(options.uid, options.uid, options.uid)
    if options.fd is None:
        _read_ahead()
    link = Link(_wire(options))
    link.hello()
    Agent(link).run()


def _read_ahead() -> None:
    """Load Python's runtime once, so that no function waits for the disk with it."""
    pid = os.posix_spawn(sys.executable, [sys.executable, *_RUNTIME], _PLACE)
    os.waitpid(pid, 0)


def _start(service: Callable[[], None]) -> None:
    threading.Thread(target=service, daemon=True).start()


def _wire(options: argparse.Namespace) -> Wire:
    if options.vsock is not None:
        return vsock(options.vsock)
    return Port() if options.port else Stream(options.fd)


class _Self:
    """What makes a clone itself: the host's time, and entropy of its own."""

    def __init__(self) -> None:
        self._pool: int | None = None

    def prepare(self) -> None:
        """Open what `take` needs, so that a clone finds it open."""
        if self._pool is None:
            self._pool = os.open("/dev/urandom", os.O_WRONLY | os.O_CLOEXEC)

    def take(self, payload: bytes) -> None:
        """Take over the time, and the entropy where there is some."""
        time.clock_settime_ns(time.CLOCK_REALTIME, _MOMENT.unpack_from(payload)[0])
        entropy = payload[_MOMENT.size :]
        if entropy:
            self.prepare()
            assert self._pool is not None  # noqa: S101
            pack = _ENTROPY.pack(len(entropy) * 8, len(entropy)) + entropy
            fcntl.ioctl(self._pool, _RNDADDENTROPY, pack)
            fcntl.ioctl(self._pool, _RNDRESEEDCRNG)
