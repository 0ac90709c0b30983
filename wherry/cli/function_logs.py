"""``wherry fn logs``: what a function logged, and what it logs from now on."""

import time
from typing import Annotated, Any

import typer

from faas.client.deploy import Unreachable
from wherry.cli.lambdas import Endpoint, Name, client, spoken, told
from wherry.errors import StartError

_FOLLOW_SECONDS = 0.5


def logs(
    name: Name,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Print what a function logged; with -f it goes on, also when Wherry starts anew."""
    seen = Seen()
    with spoken():
        api = client(endpoint)
        while True:
            try:
                lines = seen.new(api.logs(name, after=seen.offset))
            except Unreachable:
                if not follow or not seen.began:
                    raise
                if not seen.lost:
                    told(f"waiting for {api.api.endpoint}")
                seen.lose()
                time.sleep(_FOLLOW_SECONDS)
                try:
                    api = client(endpoint)  # it may come back at another port
                except StartError:
                    continue
                continue
            for line in lines:
                at = time.strftime("%H:%M:%S", time.localtime(line["at_ns"] / 1e9))
                typer.echo(f"{at} {readable(line['text'], indent=len(at) + 1)}")
            if not lines and not follow:
                return
            if not lines:
                time.sleep(_FOLLOW_SECONDS)


def readable(text: str, *, indent: int = 0) -> str:
    """Return what was logged with its stack below each other.

    awslambdaric ends the lines of a stack with CR, as CloudWatch wants it; a terminal would write
    one over the other.
    """
    return text.rstrip("\r").replace("\r\n", "\n").replace("\r", "\n" + " " * indent)


class Seen:
    """How far a log has been read.

    Attributes:
        offset: The last line's; after an outage 0, since offsets may count anew.
        at_ns: When the last line was logged.
        began: Whether the log was ever read.
        lost: Whether its source is away.
    """

    def __init__(self) -> None:
        self.offset = self.at_ns = 0
        self.began = self.lost = False

    def lose(self) -> None:
        """Note that the source is away."""
        self.offset, self.lost = 0, True

    def new(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return those of ``lines`` that were not returned before."""
        fresh = lines
        if self.lost:
            fresh = [line for line in lines if line["at_ns"] > self.at_ns]
        if lines:
            self.offset = lines[-1]["offset"]
            self.at_ns = max(self.at_ns, lines[-1]["at_ns"])
        self.began, self.lost = True, bool(self.lost and lines and not fresh)
        return fresh
