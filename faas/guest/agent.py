"""The guest's agent: joins the function's processes and its way out to the host's channel."""

import argparse
import fcntl
import json
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

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


class Agent:
    """One instance and its ways to the host."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._instance = Instance(link)
        self._server = Server(self._instance.answer)
        self._proxy = Proxy(link)
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
                _set_clock(payload)
            case Kind.RESTORE:
                _set_clock(payload)
                self._link.restart()
                self._proxy.reset()
                self._link.hello()
            case Kind.HOLD:
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
    link = Link(_wire(options))
    link.hello()
    Agent(link).run()


def _start(service: Callable[[], None]) -> None:
    threading.Thread(target=service, daemon=True).start()


def _wire(options: argparse.Namespace) -> Wire:
    if options.vsock is not None:
        return vsock(options.vsock)
    return Port() if options.port else Stream(options.fd)


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
