"""A client that asks one Envoy without end until a change has reached traffic."""

import socket
import sys
import time

SECONDS = 20.0
"""Longest that a change may take."""


class Asker:
    """Asks one Envoy again and again over a connection that is kept.

    Args:
        port: Where the Envoy listens.
        host: The name that it is asked for.
        pause: Seconds between an answer and the next request. Where a change takes long, asking
            without a pause would take from the Pilot: cores of a virtual machine are seldom whole.
    """

    def __init__(self, port: int, host: str, pause: float = 0.0) -> None:
        self._port, self._pause = port, pause
        self._request = f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
        self._socket: socket.socket | None = None

    def answer(self) -> str:
        """Return the body of an answer of 200; anything else ends the benchmark."""
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(self._request)
        head, _, body = self._heard().decode().partition("\r\n\r\n")
        if "connection: close" in head:
            self._socket.close()
            self._socket = None
        if " 200 " not in head:
            sys.exit(f"answer: {head} {body}, expected 200")
        return body

    def until(self, wanted: str) -> float:
        """Return the time of the first answer ``wanted``."""
        began = time.perf_counter()
        while self.answer() != wanted:
            if time.perf_counter() - began > SECONDS:
                sys.exit(f"no answer {wanted!r} within {SECONDS} s")
            time.sleep(self._pause)
        return time.perf_counter()

    def _heard(self) -> bytes:
        assert self._socket is not None
        raw = b""
        while True:
            piece = self._socket.recv(65536)
            if not piece:
                sys.exit("envoy hung up, expected an answer")
            raw += piece
            head, end, body = raw.partition(b"\r\n\r\n")
            if end:
                length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
                if len(body) >= int(length):
                    return raw
