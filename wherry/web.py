"""What every HTTP port of ours that people may open in a browser has in common."""

import ipaddress
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from wherry.serve import Address

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def local_names_only(address: Address, *, beside: tuple[str, ...] = ()) -> Middleware:
    """Refuse requests for a name that is not this machine's, where only this machine may ask.

    A page on the web may point a name of its own at loopback, and a browser here would then let
    it read what we answer (DNS rebinding). Who asks by number or for ``localhost`` means us.

    Args:
        address: Where the port is; one that others may reach has whatever name it has.
        beside: Beginnings of paths that are for programs, which may use any name.
    """
    local = is_loopback(address.host)

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        if local and not request.path.startswith(beside) and not _is_ours(request.host):
            text = f"host {request.host[:200]!r}: expected an IP address or localhost\n"
            raise web.HTTPForbidden(text=text)
        return await handler(request)

    return checked


def _is_ours(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]").rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost") or _is_ip(name)


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches ``host``, an address or a name."""
    return host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)
