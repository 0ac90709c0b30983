"""Who may call by their address, and which address a call behind proxies has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from gateway.traffic.wrong import WrongPolicy
from wherry.model.traffic import Addresses as Model

_BITS = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Networks:
    """A set of addresses; one look-up for each length of prefix in use.

    Attributes:
        prefixes: IP version, how many bits are shifted away, and the prefixes that stay.
    """

    prefixes: tuple[tuple[int, int, frozenset[int]], ...] = ()

    @classmethod
    def of(cls, networks: Sequence[str]) -> "Networks":
        """Prepare addresses and CIDR blocks.

        Raises:
            WrongPolicy: One is none, or has bits set beside its prefix.
        """
        found: dict[tuple[int, int], set[int]] = {}
        for text in networks:
            try:
                network = ip_network(text, strict=False)
            except ValueError:
                expected = "an IP address or a block like 10.0.0.0/8"
                raise WrongPolicy(f"network {text!r}", expected) from None
            if "/" in text and str(network.network_address) != _plain(text.partition("/")[0]):
                raise WrongPolicy(f"network {text!r}", f"{str(network)!r}")
            shift = _BITS[network.version] - network.prefixlen
            place = network.version, shift
            found.setdefault(place, set()).add(int(network.network_address) >> shift)
        return cls(tuple((*place, frozenset(some)) for place, some in sorted(found.items())))

    def __contains__(self, address: str) -> bool:
        parsed = _parsed(address)
        return parsed is not None and self.holds(parsed)

    def holds(self, address: IPv4Address | IPv6Address) -> bool:
        """Return whether ``address`` is in any of the blocks."""
        version, number = address.version, int(address)
        return any(
            version == each and number >> shift in some for each, shift, some in self.prefixes
        )


@dataclass(frozen=True, slots=True)
class Guard:
    """A policy, ready to use.

    Attributes:
        allow: Who may call; None is everyone.
        deny: Who may not, whatever ``allow`` says.
    """

    allow: Networks | None
    deny: Networks

    @classmethod
    def of(cls, addresses: Model) -> "Guard":
        """Prepare ``addresses``.

        Raises:
            WrongPolicy: See `Networks.of`.
        """
        allow = Networks.of(addresses.allow) if addresses.allow else None
        return cls(allow, Networks.of(addresses.deny))

    def admits(self, address: str) -> bool:
        """Return whether a client of ``address`` may call; what is no address may not."""
        parsed = _parsed(address)
        if parsed is None or self.deny.holds(parsed):
            return False
        return self.allow is None or self.allow.holds(parsed)


def client(peer: str, forwarded_for: Sequence[str], trusted: Networks) -> str:
    """Return the address of the client that a call comes from.

    From the right, each address is believed as long as the one that reported it is trusted; an
    entry that is no address ends the walk.

    Args:
        peer: Address of the connection's other end.
        forwarded_for: Lines of the field ``X-Forwarded-For``.
        trusted: Proxies whose word counts.
    """
    if not forwarded_for or peer not in trusted:
        return peer
    seen = peer
    for entry in _from_the_right(forwarded_for):
        address = _entry(entry)
        if address is None:
            return seen
        seen = str(address)
        if not trusted.holds(address):
            return seen
    return seen


def _from_the_right(lines: Sequence[str]) -> Iterator[str]:
    for line in reversed(lines):
        yield from reversed(line.split(","))


def _entry(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address in ``1.2.3.4``, ``1.2.3.4:80``, ``::1`` or ``[::1]:80``."""
    text = text.strip(" \t")
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        return _parsed(host) if bracket and (not port or _is_port(port)) else None
    if text.count(":") == 1:
        text, colon, port = text.partition(":")
        return _parsed(text) if _is_port(colon + port) else None
    return _parsed(text)


def _is_port(text: str) -> bool:
    return text[:1] == ":" and text[1:].isascii() and text[1:].isdigit() and len(text) <= 6  # noqa: PLR2004


@lru_cache(maxsize=4096)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # A socket for both shows an IPv4 client in this form; it is the same client.
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def _plain(text: str) -> str:
    return str(ip_address(text))
