#!/usr/bin/python3 -IS
"""A Firecracker without KVM, for tests: its API in full strictness, and the real agent behind.

It runs as a program of its own, on the standard library alone, and refuses whatever Firecracker
refuses: calls out of order, fields that are missing or unknown, a snapshot of what is not paused,
a load into what is not fresh. Behind its vsock runs the real agent, in bubblewrap, on what its
``code`` drive holds.

Memory cannot be saved here. A snapshot holds what the agent was told, and a load tells it to a new
one: so that clones differ proves nothing here, and instead it is checked that the host gives each
clone the time and fresh entropy before anything else. QEMU's tests see what guests make of that.

Source: https://github.com/firecracker-microvm/firecracker/blob/main/src/firecracker/swagger/firecracker.yaml
"""

import argparse
import base64
import json
import os
import re
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

HEAD = struct.Struct("!BII")
HELLO, LAUNCH, PARKED, CLOCK, RESTORE, HOLD = 1, 2, 3, 6, 7, 17
PORT = 1024
ENTROPY = 32
PATIENCE = 20.0
BESIDE = Path(__file__).resolve().parent
BIG = 1 << 16
SCRATCH = str(Path("/") / "tmp")


class Refused(Exception):
    """What a real one answers with 400."""


class Field:
    """One field of a request."""

    def __init__(self, kind, *, required=False, values=None):
        self.kind, self.required, self.values = kind, required, values

    def check(self, name, value):
        if not isinstance(value, self.kind) or (self.kind is int and isinstance(value, bool)):
            raise Refused(f"invalid type for `{name}`: expected {self.kind.__name__}")
        if self.values is not None and value not in self.values:
            raise Refused(f"invalid value for `{name}`: {value!r}")


def must(kind, values=None):
    return Field(kind, required=True, values=values)


BACKEND = {"backend_type": must(str, ("File", "Uffd")), "backend_path": must(str)}
SCHEMA = {
    ("PUT", "/logger"): {
        "log_path": Field(str),
        "level": Field(str, values=("Error", "Warning", "Info", "Debug", "Trace", "Off")),
        "show_level": Field(bool),
        "show_log_origin": Field(bool),
        "module": Field(str),
    },
    ("PUT", "/metrics"): {"metrics_path": must(str)},
    ("PUT", "/machine-config"): {
        "vcpu_count": must(int, range(1, 33)),
        "mem_size_mib": must(int, range(1, 1 << 20)),
        "smt": Field(bool),
        "track_dirty_pages": Field(bool),
        "cpu_template": Field(str),
        "huge_pages": Field(str),
    },
    ("PUT", "/boot-source"): {
        "kernel_image_path": must(str),
        "initrd_path": Field(str),
        "boot_args": Field(str),
    },
    ("PUT", "/drives"): {
        "drive_id": must(str),
        "path_on_host": must(str),
        "is_root_device": must(bool),
        "is_read_only": Field(bool),
        "cache_type": Field(str, values=("Unsafe", "Writeback")),
        "io_engine": Field(str, values=("Sync", "Async")),
        "partuuid": Field(str),
        "rate_limiter": Field(dict),
    },
    ("PUT", "/vsock"): {
        "guest_cid": must(int, range(3, 1 << 32)),
        "uds_path": must(str),
        "vsock_id": Field(str),
    },
    ("PUT", "/entropy"): {"rate_limiter": Field(dict)},
    ("PUT", "/actions"): {"action_type": must(str, ("InstanceStart", "FlushMetrics"))},
    ("PATCH", "/vm"): {"state": must(str, ("Paused", "Resumed"))},
    ("PUT", "/snapshot/create"): {
        "mem_file_path": must(str),
        "snapshot_path": must(str),
        "snapshot_type": Field(str, values=("Full", "Diff")),
    },
    ("PUT", "/snapshot/load"): {
        "snapshot_path": must(str),
        "mem_backend": must(dict),
        "resume_vm": Field(bool),
        "enable_diff_snapshots": Field(bool),
        "track_dirty_pages": Field(bool),
        "network_overrides": Field(list),
    },
}


def checked(schema, body):
    """Return the body, known to fit."""
    for name in body:
        if name not in schema:
            raise Refused(f"unknown field `{name}`, expected one of {', '.join(schema)}")
    for name, field in schema.items():
        if name in body:
            field.check(name, body[name])
        elif field.required:
            raise Refused(f"missing field `{name}`")
    return body


def whole(body):
    if not isinstance(body, dict):
        raise Refused("an empty or malformed body")
    return body


def there(path):
    if not Path(path).is_file() or not os.access(path, os.R_OK):
        raise Refused(f"{path}: No such file or directory (os error 2)")
    return path


class Guest:
    """The agent in its sandbox, and the vsock between it and the host."""

    def __init__(self, vsock, drives, restored):
        self.launch = None
        self.restored = restored
        self.lock = threading.Lock()
        self.host = None
        self.said = {kind: threading.Event() for kind in (HELLO, PARKED, CLOCK)}
        self.resting = 0
        self.ours, theirs = socket.socketpair()
        task = Path("task")
        task.mkdir()
        if "code" in drives:
            told = ["debugfs", "-R", f"rdump / {task}", drives["code"]["path_on_host"]]
            subprocess.run(told, capture_output=True, check=False)
        files = {path: os.open(path, os.O_RDONLY) for path in task.rglob("*.py")}
        with theirs:
            fds = [theirs.fileno(), *files.values()]
            self.process = subprocess.Popen(self.command(theirs.fileno(), files), pass_fds=fds)
        for fd in files.values():
            os.close(fd)
        for run in (self.from_agent, self.end):
            threading.Thread(target=run, daemon=True).start()
        if not self.said[HELLO].wait(PATIENCE):
            panic("the agent did not say hello")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(vsock["uds_path"])
        listener.listen()
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def command(self, fd, files):
        """The folder above may be closed to bwrap: code goes in by descriptors."""
        shown = [
            argument
            for path, file in files.items()
            for argument in ("--perms", "0644", "--file", str(file), f"/var/{path}")
        ]
        layout = BESIDE / "layout"
        return [
            *("bwrap", "--unshare-all", "--uid", "65534", "--gid", "65534", "--clearenv"),
            *("--die-with-parent", "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr"),
            *("--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"),
            *("--symlink", "usr/bin", "/bin", "--dir", "/opt", "--dir", "/var"),
            *("--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"),
            *("--dir", "/var/task", *shown, "--ro-bind", layout / "runtime", "/var/runtime"),
            *("--ro-bind", layout / "agent", "/var/wherry", "--proc", "/proc", "--dev", "/dev"),
            *("--tmpfs", SCRATCH, "--"),
            *("/usr/bin/python3.11", "-I", "-S", "/var/wherry", "--fd", str(fd)),
        ]

    def end(self):
        self.process.wait()
        os._exit(0)

    def accept(self, listener):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        asked = b""
        while not asked.endswith(b"\n") and len(asked) < 64 and (byte := connection.recv(1)):
            asked += byte
        if asked != f"CONNECT {PORT}\n".encode():
            connection.close()
            return
        connection.sendall(b"OK 1073741824\n")
        with self.lock:
            before, self.host = self.host, connection
            if before:
                before.close()
            if not self.restored:
                connection.sendall(frame(HELLO, b'{"version": 1}'))
        try:
            for kind, stream, payload in frames(connection):
                self.from_host(connection, kind, stream, payload)
        except OSError:
            return

    def from_host(self, connection, kind, stream, payload):
        self.resting = self.resting + 1 if kind == HOLD else 0
        if self.restored and kind != RESTORE:
            panic(f"a clone was sent {kind} before time and entropy")
        match kind:
            case kind if kind == RESTORE:
                moment, entropy = struct.unpack("!Q", payload[:8])[0], payload[8:]
                if not self.restored or abs(moment - time.time_ns()) > 5e9:
                    panic("a wrong time, or a restore of what was not saved")
                if len(entropy) != ENTROPY or len(set(entropy)) < 8:
                    panic("no entropy")
                self.restored = False
                connection.sendall(frame(HELLO, b'{"version": 1}'))
            case kind if kind == CLOCK:
                if abs(struct.unpack("!Q", payload)[0] - time.time_ns()) > 5e9:
                    panic("a wrong time")
                self.said[CLOCK].set()
            case kind if kind == HOLD and self.launch is None:
                connection.sendall(frame(HELLO, b'{"version": 1}'))
            case kind if kind == LAUNCH:
                self.start(payload)
            case _:
                self.ours.sendall(frame(kind, payload, stream))

    def start(self, payload):
        self.launch = payload
        order = json.loads(payload)
        if [disk["device"] for disk in order["disks"]][:2] != ["/dev/vdf", "/dev/vdc"]:
            panic("a launch without the disks of /tmp and of its code")
        order |= {"disks": [], "uid": None}
        self.ours.sendall(frame(LAUNCH, json.dumps(order).encode()))

    def from_agent(self):
        for kind, stream, payload in frames(self.ours):
            if kind in self.said and not (kind == HELLO and self.said[HELLO].is_set()):
                self.said[kind].set()
                if kind == HELLO:
                    continue
            with self.lock:
                if self.host is not None:
                    try:
                        self.host.sendall(frame(kind, payload, stream))
                    except OSError:
                        self.host = None

    def pids(self):
        found = [self.process.pid]
        for pid in found:
            for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, tasks.read_text().split())
        return found

    def signal(self, number):
        for pid in self.pids():
            os.kill(pid, number)


class Vm:
    """The state machine."""

    def __init__(self):
        self.state = "fresh"
        self.set = {}
        self.drives = {}
        self.guest = None

    def handle(self, method, path, body):
        key, name = path, None
        if match := re.fullmatch(r"(/drives)/(\w+)", path):
            key, name = match.groups()
        schema = SCHEMA.get((method, key))
        if schema is None:
            raise Refused(f"Invalid request method and/or path: {method} {path}")
        checked(schema, body)
        if key == "/drives" and self.state in ("fresh", "configuring"):
            self.state = "configuring"
            self.note_drive(name, body)
            return
        step = key.strip("/").replace("/", "_").replace("-", "_")
        before = key in ("/machine-config", "/boot-source", "/drives", "/vsock", "/entropy")
        if before and self.state not in ("fresh", "configuring"):
            raise Refused("The requested operation is not supported after starting the microVM.")
        if before:
            self.state = "configuring"
        getattr(self, step, self.note)(key, name, body)

    def note(self, key, _name, body):
        self.set[key] = body

    def note_drive(self, name, body):
        if body["drive_id"] != name:
            raise Refused("The id from the path does not match the id from the body!")
        there(body["path_on_host"])
        self.drives[name] = body

    def boot_source(self, key, _name, body):
        there(body["kernel_image_path"])
        there(body["initrd_path"])
        for word in ("pci=off", "rdinit=/init", f"wherry.vsock={PORT}"):
            if word not in body["boot_args"].split():
                raise Refused(f"this guest needs {word}")
        self.set[key] = body

    def logger(self, key, _name, body):
        there(body["log_path"])
        self.set[key] = body

    def actions(self, _key, _name, body):
        if body["action_type"] != "InstanceStart":
            return
        if self.state != "configuring":
            raise Refused("The requested operation is not supported after starting the microVM.")
        if "/boot-source" not in self.set:
            raise Refused("Cannot start microvm without kernel configuration.")
        if list(self.drives) != ["root", "guest", "code", "layers", "language", "tmp"]:
            raise Refused(f"drives {list(self.drives)}: not in the order that the guest knows")
        self.guest = Guest(self.set["/vsock"], self.drives, restored=False)
        self.state = "running"

    def vm(self, _key, _name, body):
        if self.guest is None:
            raise Refused("The requested operation is not supported before starting the microVM.")
        if body["state"] == "Paused" and self.state == "running":
            self.guest.said[CLOCK].clear()
            self.guest.signal(signal.SIGSTOP)
            self.state = "paused"
        elif body["state"] == "Resumed" and self.state == "paused":
            if not self.guest.said[CLOCK].wait(PATIENCE):
                panic("resumed with a clock that stood still")
            self.guest.signal(signal.SIGCONT)
            self.state = "running"

    def snapshot_create(self, _key, _name, body):
        if self.state != "paused":
            raise Refused("Create snapshot error: the microVM is not paused")
        if self.guest.resting < 2:
            raise Refused("the channel to the guest is not at rest")
        launch = self.guest.launch
        kept = {
            "drives": self.drives,
            "vsock": self.set["/vsock"],
            "memory": self.set["/machine-config"]["mem_size_mib"] << 20,
            "launch": base64.b64encode(launch).decode() if launch is not None else None,
        }
        Path(body["snapshot_path"]).write_text(json.dumps(kept))
        with Path(body["mem_file_path"]).open("wb") as memory:
            memory.write(os.urandom(4096))
            memory.truncate(kept["memory"])

    def snapshot_load(self, _key, _name, body):
        if self.state != "fresh" or set(self.set) - {"/logger", "/metrics"}:
            raise Refused("Loading a microVM snapshot not allowed after configuring boot-specific")
        backend = checked(BACKEND, body["mem_backend"])
        kept = json.loads(Path(there(body["snapshot_path"])).read_text())
        if Path(there(backend["backend_path"])).stat().st_size != kept["memory"]:
            raise Refused("the memory file has another size than the guest's memory")
        for drive in kept["drives"].values():
            there(drive["path_on_host"])
        self.drives, self.set["/vsock"] = kept["drives"], kept["vsock"]
        self.set["/machine-config"] = {"mem_size_mib": kept["memory"] >> 20}
        self.guest = Guest(kept["vsock"], kept["drives"], restored=True)
        if kept["launch"] is not None:
            self.guest.start(base64.b64decode(kept["launch"]))
            if not self.guest.said[PARKED].wait(PATIENCE):
                panic("what was saved was not at its restore point")
        self.state = "running"
        if not body.get("resume_vm"):
            self.guest.signal(signal.SIGSTOP)
            self.state = "paused"


def panic(why):
    sys.stderr.write(f"{why}\n")
    sys.stderr.flush()
    os._exit(1)


def frame(kind, payload=b"", stream=0):
    return HEAD.pack(kind, stream, len(payload)) + payload


def frames(source):
    """Yield frames until the other end closes."""
    data = b""
    while piece := source.recv(BIG):
        data += piece
        while len(data) >= HEAD.size:
            kind, stream, length = HEAD.unpack_from(data)
            if len(data) < HEAD.size + length:
                break
            yield kind, stream, data[HEAD.size : HEAD.size + length]
            data = data[HEAD.size + length :]


VM = Vm()
TURN = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        size = int(self.headers.get("Content-Length", 0))
        try:
            body = whole(json.loads(self.rfile.read(size) or b"null"))
            with TURN:
                VM.handle(self.command, self.path, body)
        except (Refused, ValueError) as refused:
            said = json.dumps({"fault_message": str(refused)}).encode()
            self.send_response(400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)
        else:
            self.send_response(204)
            self.end_headers()

    do_PUT = do_PATCH = answer

    def address_string(self):
        return "host"

    def log_message(self, *_arguments):
        return


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--api-sock", required=True)
    parser.add_argument("--id", default="anonymous-instance")
    Server(parser.parse_args().api_sock, Handler).serve_forever()


if __name__ == "__main__":
    main()
