"""The Pilot's streams on the HTTP/2 shell of our own, with ready resources: `CLUSTERS SCOPES`."""

import asyncio
import sys

from parts.control import answering
from parts.our_xds import Pushes
from wherry.clock import SystemClock
from wherry.serve import Address, collect_rarely
from xds.http2.server import serving
from xds.limits import Limits
from xds.streams import Streams


async def main(clusters: int, scopes: int) -> None:
    """Serve until stdin closes."""
    collect_rarely()  # as `wherry run xds` does
    pushes = Pushes(clusters, scopes)
    limits = Limits()
    discovery = Streams(pushes.hub, SystemClock(), limits)
    async with serving(Address(), discovery.handlers(), limits=limits) as address:
        await answering({"port": lambda: address.port, "push": pushes.push})


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
