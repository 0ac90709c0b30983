"""A program that serves: where it is, of which service and version."""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from wherry.errors import WherryError

TTL_SECONDS = (1, 300)
"""Least and most seconds that one registration lasts."""
MAX_LABELS = 64
MAX_LABEL = 253
"""Most characters in a label's name or value."""

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DNS_LABEL = re.compile(_LABEL)
_DNS_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


class BadWorkload(WherryError):
    """A registration holds a value that cannot be used."""


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """One registered instance; every value is checked.

    Attributes:
        id: Unique within the service, a DNS-1123 label.
        service: The service that it serves, a DNS-1123 subdomain.
        version: Its version label, a Kubernetes label value or empty.
        address: IPv4 or IPv6 address where its Envoy takes requests.
        port: The port there, 1 to 65535.
        labels: What services select by; always holds ``app`` (the service) and ``version``.

    Raises:
        BadWorkload: A value is not of that form.

    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and
    https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
    """

    id: str
    service: str
    version: str
    address: str
    port: int
    labels: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType({}), hash=False, compare=True
    )

    def __post_init__(self) -> None:
        checked_name("id", self.id)
        checked_name("service", self.service)
        if self.version:
            checked_name("version", self.version)
        try:
            ipaddress.ip_address(self.address)
        except ValueError:
            raise BadWorkload(
                f"workload {self.id}: address {self.address[:64]!r}, expected an IP address"
            ) from None
        if not 0 < self.port < 1 << 16:
            raise BadWorkload(f"workload {self.id}: port {self.port}, expected 1 to 65535")
        labels = {**self.labels, "app": self.service, "version": self.version}
        if len(labels) > MAX_LABELS:
            raise BadWorkload(
                f"workload {self.id}: {len(labels)} labels, expected at most {MAX_LABELS}"
            )
        for name, value in labels.items():
            if not 0 < len(name) <= MAX_LABEL or len(value) > MAX_LABEL:
                raise BadWorkload(
                    f"workload {self.id}: label {name[:64]!r}: name or value too long or empty, "
                    f"expected at most {MAX_LABEL} characters"
                )
        object.__setattr__(self, "labels", MappingProxyType(labels))


def checked_ttl(workload: Workload, seconds: int) -> int:
    """Return ``seconds`` if a registration may last that long.

    Raises:
        BadWorkload: It is outside of `TTL_SECONDS`.
    """
    least, most = TTL_SECONDS
    if not least <= seconds <= most:
        raise BadWorkload(
            f"workload {workload.id}: ttl_seconds {seconds}, expected {least} to {most}"
        )
    return seconds


def checked_name(what: str, name: str) -> str:
    """Return ``name`` if it has the form that its use asks for.

    Args:
        what: ``id``, ``service`` or ``version``.
        name: What was given.

    Raises:
        BadWorkload: It has not.
    """
    form, expected = _FORMS[what]
    if not form.fullmatch(name):
        raise BadWorkload(f"workload {what} {name[:64]!r}: expected {expected}")
    return name


_FORMS: Mapping[str, tuple[re.Pattern[str], str]] = {
    "id": (_DNS_LABEL, "a DNS-1123 label (a-z, 0-9, '-', at most 63 characters)"),
    "service": (
        _DNS_NAME,
        "a DNS-1123 name (labels of a-z, 0-9, '-' between dots, at most 253 characters)",
    ),
    "version": (
        _LABEL_VALUE,
        "a label value (A-Z, a-z, 0-9, '-', '_', '.', at most 63 characters)",
    ),
}


def record_body(workload: Workload, expires_unix_ns: int) -> bytes:
    """Return what the Store keeps of a registration; the key holds service and id."""
    return json.dumps(
        {
            "version": workload.version,
            "address": workload.address,
            "port": workload.port,
            "labels": dict(workload.labels),
            "expires_unix_ns": expires_unix_ns,
        },
        sort_keys=True,
    ).encode()


def from_record(service: str, workload_id: str, body: bytes) -> tuple[Workload, int]:
    """Return the workload and the Unix nanoseconds when its registration ends.

    Raises:
        BadWorkload: The record is none of ours.
    """
    try:
        values = json.loads(body)
        workload = Workload(
            workload_id,
            service,
            str(values["version"]),
            str(values["address"]),
            int(values["port"]),
            {str(name): str(value) for name, value in values["labels"].items()},
        )
        return workload, int(values["expires_unix_ns"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadWorkload(
            f"record of workload {workload_id!r}: unreadable, expected a registration"
        ) from None
