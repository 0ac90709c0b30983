"""One runtime and its extensions, from LAUNCH to their end."""

import errno
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from faas.guest.extensions import Extension, Extensions, found
from faas.guest.http1 import Request
from faas.guest.link import Kind, Link
from faas.guest.memory import Peak, killed_for_memory
from faas.guest.mounts import container_root, mount_disks
from faas.guest.order import Order
from faas.guest.output import Output
from faas.guest.phases import Phases
from faas.guest.runtime_api import RuntimeApi
from faas.guest.server import refusal
from faas.guest.spawn import Frame, ended, spawn
from faas.guest.telemetry import LOGS, TELEMETRY, Telemetry

NOT_STARTED = 126
"""Exit status that stands for a runtime that could not be started."""
NOT_FOUND = 127
BOOTSTRAPS = ("/var/task/bootstrap", "/opt/bootstrap")
_GRACE = 0.5
"""Seconds for a runtime to end by itself once it was asked to."""


class NotStartable(Exception):
    """The function has nothing that could be started, as Lambda tells it."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type


class Instance:
    """The function's processes and what serves them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.telemetry = Telemetry()
        self._output = Output(link, lambda line: self.telemetry.log("function", line))
        self._beside = Output(link, lambda line: self.telemetry.log("extension", line))
        self._phases = Phases(link, self.telemetry, self._used)
        self._phases.settled = self._settled
        self.api = RuntimeApi(link, self._output, self._phases)
        self._extensions = Extensions(self._phases.rounds, self._gave_up, self._phases.registered)
        self._pids: dict[str, int] = {}
        self._peak = Peak()
        self._runtime_ended = threading.Event()
        self._over = False
        self._ending = False

    def services(self) -> list[Callable[[], None]]:
        """Return what must run, each in a thread of its own."""
        return [self._output.run, self._beside.run]

    def answer(self, request: Request, connection: socket.socket) -> bytes | None:
        """Answer one request of the function's processes."""
        path = request.path
        if path.startswith("/2020-01-01/extension/"):
            return self._extensions.answer(request, connection)
        if path in (TELEMETRY, LOGS):
            extension = self._extensions.identified(request)
            if isinstance(extension, Extension):
                return self.telemetry.answer(request, extension)
            return extension
        if path.startswith("/2018-06-01/runtime/"):
            return self.api.answer(request, connection)
        return refusal(404, "NotFound", f"no such operation: {request.method} {path[:60]}")

    def invoke(self, headers: dict[str, str], body: bytes) -> None:
        """Hand an event to the runtime and to the extensions that asked for it."""
        self._phases.begin_invocation(headers)
        self._extensions.invoked(headers)
        self.api.events.put(headers, body)

    def launch(self, order: Order) -> None:
        """Run the runtime to its end and report how it ended."""
        try:
            self._prepare(order)
            self._phases.begin_init(order)
            frame = Frame(order["root"], order["uid"], order["data_limit"], order["processes"])
            self._start_extensions(order, frame)
            if self._over:
                return
            pid = self._start_runtime(order, frame)
        except NotStartable as error:
            self._init_failed(error.error_type, str(error))
            return
        except OSError as error:
            self._link.send_log(f"the runtime did not start: {error}".encode())
            self._exit(NOT_STARTED)
            return
        self._pids["runtime"] = pid
        status = ended(pid)
        starved = status == -signal.SIGKILL and killed_for_memory(pid)
        self._runtime_ended.set()
        if not self._ending:
            self._phases.failed("failure")
            self._exit(status, out_of_memory=starved)

    def shut_down(self, reason: str, seconds: float) -> None:
        """End the runtime, tell the extensions, wait for them, and end this process."""
        self._ending = True
        if not self._runtime_ended.is_set() and (pid := self._pids.get("runtime")):
            if reason == "spindown":
                _kill(pid, signal.SIGTERM)
                self._runtime_ended.wait(_GRACE)
            _kill(pid, signal.SIGKILL)
        until = time.monotonic() + seconds
        self.telemetry.flush(min(seconds / 4, _GRACE))
        self._extensions.shut_down(reason, time.time_ns() // 1_000_000 + round(seconds * 1000))
        for extension in self._extensions.external():
            if extension.events and "SHUTDOWN" in extension.events:
                _wait_for(self._pids.get(extension.name), until)
        self._beside.flush()
        self._output.flush()
        os._exit(0)

    def _prepare(self, order: Order) -> None:
        mount_disks(order["disks"])
        if order["image"] and order["root"]:
            container_root(order["image"], order["root"])

    def _start_extensions(self, order: Order, frame: Frame) -> None:
        programs = found(order["root"])
        self._extensions.expect(order, [program.name for program in programs])
        for program in programs:
            try:
                pid = spawn(
                    [f"/opt/extensions/{program.name}"],
                    frame=frame,
                    environment=order["environment"],
                    directory="/",
                    output=self._beside.sink,
                )
            except OSError as error:
                raise NotStartable(
                    "Extension.LaunchError",
                    f"Error: fork/exec /opt/extensions/{program.name}: {_said(error)}",
                ) from None
            self._pids[program.name] = pid
            threading.Thread(target=self._watch, args=(program.name, pid), daemon=True).start()
        self._extensions.wait_for_registration(lambda: self._over)

    def _watch(self, name: str, pid: int) -> None:
        """Wait for the end of an extension, which is the instance's, too."""
        status = ended(pid)
        self._pids.pop(name, None)
        if self._ending or self._over:
            return
        how = f"signal: {-status}" if status < 0 else f"exit status {status}"
        self._gave_up("Extension.Crash", f"Error: extension {name}: {how}")

    def _gave_up(self, error_type: str, message: str) -> None:
        """End the instance because of an extension."""
        if self._phases.initialized:
            self._exit(1, error_type)
        else:
            self._init_failed(error_type, message)
        self._extensions.wake()

    def _start_runtime(self, order: Order, frame: Frame) -> int:
        directory = order["directory"]
        if not Path(order["root"] or "/", directory.lstrip("/")).is_dir():
            raise NotStartable(
                "Runtime.InvalidWorkingDir", f"Error: chdir {directory}: no such file or directory"
            )
        argv = self._command(order)
        try:
            return spawn(
                argv,
                frame=frame,
                environment=order["environment"],
                directory=directory,
                output=self._output.sink,
            )
        except OSError as error:
            raise NotStartable(
                "Runtime.InvalidEntrypoint", f"Error: fork/exec {argv[0]}: {_said(error)}"
            ) from None

    def _command(self, order: Order) -> list[str]:
        if order["kind"] == "provided":
            there = [path for path in BOOTSTRAPS if Path(path).is_file()]
            if not there:
                raise NotStartable(
                    "Runtime.InvalidEntrypoint",
                    f"Error: Couldn't find valid bootstrap(s): [{' '.join(BOOTSTRAPS)}]",
                )
            return there[:1]
        command = list(order["command"])
        if order["kind"] == "python":
            command.insert(0, sys.executable)
        wrapper = order["wrapper"]
        if not wrapper:
            return command
        if not Path(wrapper).is_file():
            self._link.send_log(f"{wrapper}: does not exist".encode())
            raise NotStartable("Runtime.ExitError", f"Error: Runtime exited: status {NOT_FOUND}")
        if not os.access(wrapper, os.X_OK):
            self._link.send_log(f"{wrapper}: is not an executable".encode())
            raise NotStartable("Runtime.ExitError", f"Error: Runtime exited: status {NOT_STARTED}")
        return [wrapper, *command]

    def _settled(self) -> int:
        """Close what is open during init only; return how many extensions there are."""
        self._extensions.close()
        self.telemetry.close()
        extensions = len(self._extensions)
        if extensions:
            self._flush()  # what they wrote comes before word of their rest
        return extensions

    def _used(self) -> int:
        return self._peak.kib(list(self._pids.values()))

    def _init_failed(self, error_type: str, message: str) -> None:
        self._over = True
        self._phases.failed()
        self._flush()
        document = {"errorType": error_type, "errorMessage": message}
        self._link.send_result(
            {
                "kind": "init-error",
                "request_id": "",
                "content_type": "application/json",
                "error_type": error_type,
            },
            json.dumps(document).encode(),
        )

    def _exit(self, status: int, error_type: str = "", *, out_of_memory: bool = False) -> None:
        self._over = True
        self._flush()
        how = {"signal": -status} if status < 0 else {"status": status}
        self._link.send_json(Kind.EXIT, **how, error_type=error_type, out_of_memory=out_of_memory)

    def _flush(self) -> None:
        self._beside.flush()
        self._output.flush()


def _kill(pid: int, number: signal.Signals) -> None:
    """Send a signal to a program and all of its session."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _wait_for(pid: int | None, until: float) -> None:
    """Wait for the end of an extension that another thread waits for, too."""
    while pid is not None and time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        threading.Event().wait(0.005)


def _said(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO).lower()
