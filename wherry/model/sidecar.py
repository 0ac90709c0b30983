"""Istio's Sidecar: which services a workload may call.

Source: https://istio.io/latest/docs/reference/config/networking/sidecar/
"""

from collections.abc import Container
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from wherry.model.resource import Resource, Strict, is_name

EVERY_HOST = "*"
"""The name that stands for every service."""

HERE, EVERYWHERE, NOWHERE = ".", "*", "~"
"""Namespaces of a host: ours, all of them (this version knows one), none."""


def service_of(host: str, known: Container[str]) -> str | None:
    """Return the service that an egress host names; `EVERY_HOST` for all, None for none at all.

    Args:
        host: ``NAMESPACE/NAME``, checked; ``NAME.localhost`` is NAME unless a service is called so.
        known: The names of services.
    """
    namespace, _, name = host.partition("/")
    if namespace == NOWHERE:
        return None
    return name if name in known else name.removesuffix(".localhost")


def _a_host(text: str) -> str:
    namespace, slash, name = text.partition("/")
    if not slash or namespace not in {HERE, EVERYWHERE, NOWHERE}:
        raise ValueError(f"host {text!r}, expected './NAME', '*/NAME', '*/*', './*' or '~/*'")
    if namespace == NOWHERE and name != EVERY_HOST:
        raise ValueError(f"host {text!r}, expected '~/*' (nothing), or './{name}'")
    if name != EVERY_HOST and not is_name(name):
        raise ValueError(f"host {text!r}, expected the name of a service or '*' behind the slash")
    return text


Host = Annotated[str, AfterValidator(_a_host)]
"""``NAMESPACE/NAME``: the namespace is ``.`` or ``*``, the name is a service's or ``*``."""


class WorkloadSelector(Strict):
    """Workloads that have all these labels; none given makes it the default of the mesh."""

    labels: dict[str, str] = {}


class Egress(Strict):
    """Hosts that may be called."""

    hosts: list[Host] = Field(min_length=1, max_length=1024)


class SidecarSpec(Strict):
    """See `Sidecar`.

    Attributes:
        egress: What may be called, all entries together; none given inherits the default of the
            mesh, and without one every service.
    """

    workload_selector: WorkloadSelector = WorkloadSelector()
    egress: list[Egress] = Field(default=[], max_length=64)


class Sidecar(Resource):
    """Which services the Envoys of the selected workloads know; others do not exist for them.

    The most specific selector that matches decides, alone.
    """

    api_version: Literal["networking.istio.io/v1", "networking.istio.io/v1beta1"]
    kind: Literal["Sidecar"]
    spec: SidecarSpec
