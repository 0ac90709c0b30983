"""Errors shared by every service: one base, one class per thing that a caller would handle.

A message reads ``<thing> <id>: <found>, expected <what>`` and, where there is one, ends with
the way out.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class WherryError(Exception):
    """Base of every error that this project raises on purpose."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in what a user wrote.

    Attributes:
        file: Path as the user named it.
        line: Line in that file, from 1.
        found: What stands there.
        expected: What could stand there.
    """

    file: str
    line: int
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.found}, expected {self.expected}"


class ConfigError(WherryError):
    """What a user wrote cannot be used; every problem found is listed, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(map(str, self.problems)))


class StartError(WherryError):
    """A part cannot start; the message names the part, the cause and the way out."""


class PortInUse(StartError):
    """Another program listens where a part wanted to."""

    def __init__(self, part: str, host: str, port: int) -> None:
        super().__init__(
            f"{part}: {host}:{port} is taken by another program, expected a free port; "
            f"end that program, or choose another with --listen {part}={host}:PORT "
            "(0 lets the kernel choose)"
        )
        self.part, self.host, self.port = part, host, port


class MissingBinary(StartError):
    """A program that a part runs is not installed."""

    def __init__(self, binary: str, way_out: str) -> None:
        super().__init__(f"{binary}: not found on PATH, expected an executable; {way_out}")
        self.binary = binary
