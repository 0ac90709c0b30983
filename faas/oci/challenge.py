"""What a registry asks of who wants something, and what docker knows of it. Pure.

Source: https://distribution.github.io/distribution/spec/auth/token/ and RFC 9110, section 11.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from faas.oci.documents import ImageError

_HUB = ("registry-1.docker.io", "https://index.docker.io/v1/")
_PARAMETER = re.compile(r'([A-Za-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_MAX_CONFIG = 1 << 20


@dataclass(frozen=True, slots=True)
class Challenge:
    """A ``WWW-Authenticate`` header.

    Attributes:
        scheme: ``bearer`` or ``basic``.
        parameters: Such as ``realm``, ``service`` and ``scope``.
    """

    scheme: str
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password for one registry."""

    user: str
    password: str

    def header(self) -> str:
        """Return what ``Authorization`` says."""
        both = f"{self.user}:{self.password}".encode()
        return f"Basic {base64.b64encode(both).decode()}"


def challenge(header: str) -> Challenge | None:
    """Read a header; None when it is neither Bearer nor Basic."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() not in ("bearer", "basic"):
        return None
    found = {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) or bare
        for name, quoted, bare in _PARAMETER.findall(rest[:4096])
    }
    return Challenge(scheme.lower(), found)


def login(config: bytes, host: str) -> Login | None:
    """Return what docker's ``config.json`` has for ``host``; None when it has nothing.

    Raises:
        ImageError: It is no such file.
    """
    if len(config) > _MAX_CONFIG:
        raise ImageError(f"docker's config.json: over {_MAX_CONFIG} bytes, expected less")
    try:
        known = json.loads(config)["auths"]
        keys = {host, f"https://{host}", f"http://{host}", *(_HUB if host in _HUB else ())}
        noted = next(
            (
                known[key]["auth"]
                for key in known
                if key.rstrip("/") in keys | {key.rstrip("/") for key in keys}
            ),
            None,
        )
        if noted is None:
            return None
        user, _, password = base64.b64decode(noted, validate=True).decode().partition(":")
    except KeyError:
        return None
    except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise ImageError("docker's config.json: damaged, expected what docker login writes") from (
            None
        )
    return Login(user, password)
