"""Services and the programs that serve them."""

from typing import Annotated, Literal

from pydantic import Field

from wherry.model.health import HealthPath
from wherry.model.resource import Name, Port, Resource, Strict

Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")]
"""A version label's value, as Kubernetes label values are."""


Protocol = Literal["http", "grpc"]
"""How requests are spoken to programs: HTTP/1.1, or gRPC, which takes HTTP/2."""


class ServicePort(Strict):
    """A port that clients call.

    Attributes:
        port: What a client writes behind the host name; 80 may be left out of a URL.
        name: For people.
        app_protocol: How requests are spoken. Clients of ``http`` may speak HTTP/2 all the same;
            calls of ``grpc`` may last as long as their clients want.
    """

    port: Port = 80
    name: str = "http"
    app_protocol: Protocol = "http"


class ServiceSpec(Strict):
    """See `Service`."""

    selector: dict[str, str]
    ports: list[ServicePort] = Field(default=[ServicePort()], min_length=1, max_length=1)

    @property
    def grpc(self) -> bool:
        """Whether its programs speak gRPC."""
        return self.ports[0].app_protocol == "grpc"


class Service(Resource):
    """A host name and the workloads behind it, chosen by label.

    Every workload has the labels ``app`` (the service it registered for) and ``version``.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/
    """

    api_version: Literal["v1"]
    kind: Literal["Service"]
    spec: ServiceSpec


class WorkloadSpec(Strict):
    """See `Workload`.

    Attributes:
        service: The service that it registers for.
        version: Its ``version`` label.
        command: Program and arguments, run in the folder of the file; ``python`` is the
            interpreter that runs Wherry.
        port: Where the program listens on loopback; 0 lets the kernel choose and tells it
            by the variable ``PORT``.
        environment: More variables for the program.
    """

    service: Name
    version: Version = "v1"
    command: list[str] = Field(min_length=1)
    port: int = Field(default=0, ge=0, le=65535)
    environment: dict[str, str] = {}


class Workload(Resource):
    """A program that ``wherry up`` runs behind an Envoy sidecar."""

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["Workload"]
    spec: WorkloadSpec


class ShortVersion(Strict):
    """One version of a service in the short form.

    Attributes:
        run: Program and arguments; left out when the program is started elsewhere.
        port: See `WorkloadSpec.port`.
        environment: See `WorkloadSpec.environment`.
        calls: Services that it may call; None says nothing of it, an empty list allows none.
    """

    run: list[str] | None = None
    port: int = Field(default=0, ge=0, le=65535)
    environment: dict[str, str] = {}
    calls: list[Name] | None = Field(default=None, max_length=1024)


class ShortService(ShortVersion):
    """A service in the short form: itself the only version, or a map of versions.

    Attributes:
        service_port: What clients write behind the host name.
        app_protocol: See `ServicePort`.
        health: Path of a `HealthCheck` of all versions; None asks for none.
        versions: By version label; each also becomes a service ``NAME-VERSION`` for routes. One
            without ``calls`` of its own has those of the service.
    """

    service_port: Port = 80
    app_protocol: Protocol = "http"
    health: HealthPath | None = None
    versions: dict[Version, ShortVersion] = {}


class ShortForm(Strict):
    """A document without ``kind``: services by name.

    It stands for one `Service` a name, one a version, a `Workload` for each ``run``, a `Sidecar`
    for each ``calls`` and a `HealthCheck` for each ``health``.
    """

    services: dict[Name, ShortService]
