"""What both ends of a benchmark say: discovery messages apart from the Pilot's own."""

from collections.abc import Iterable, Sequence

from wherry.protobuf import messages
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource

SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
WATCHED = "svc-0"
"""The endpoints that every client asks for."""
ROUTES = "routes"
NAMES: dict[str, list[str]] = {CLUSTER: [], ENDPOINT: [WATCHED], LISTENER: [], ROUTE: [ROUTES]}
"""What a client asks for of each type; an empty list asks for everything."""

METHODS = {"sotw": "StreamAggregatedResources", "delta": "DeltaAggregatedResources"}

MESSAGES = messages(
    "benchmarks.discovery",
    """
    Node(envoy.config.core.v3.Node) id:s=1 cluster:s=2
    Request(envoy.service.discovery.v3.DiscoveryRequest)
        version_info:s=1 node:Node=2 resource_names:*s=3 type_url:s=4 response_nonce:s=5
    Response(envoy.service.discovery.v3.DiscoveryResponse)
        version_info:s=1 resources:*.google.protobuf.Any=2 type_url:s=4 nonce:s=5
    Resource(envoy.service.discovery.v3.Resource)
        version:s=1 resource:.google.protobuf.Any=2 name:s=3
    DeltaRequest(envoy.service.discovery.v3.DeltaDiscoveryRequest)
        node:Node=1 type_url:s=2 resource_names_subscribe:*s=3 response_nonce:s=6
    DeltaResponse(envoy.service.discovery.v3.DeltaDiscoveryResponse)
        system_version_info:s=1 resources:*Resource=2 type_url:s=4 nonce:s=5
    Head(envoy.service.discovery.v3.DiscoveryResponse) version_info:s=1 type_url:s=4 nonce:s=5
    """,
)
"""``Head`` is what a client must know of either response in order to acknowledge it."""


def response(variant: str, resources: Iterable[Resource], version: str) -> bytes:
    """Return a response that holds ``resources``, all of one type; its nonce is its version."""
    given = list(resources)
    type_url = given[0].type_url
    if variant == "sotw":
        message = MESSAGES["Response"](version_info=version, type_url=type_url, nonce=version)
        for each in given:
            message.resources.add(type_url=type_url, value=each.body)
    else:
        message = MESSAGES["DeltaResponse"](
            system_version_info=version, type_url=type_url, nonce=version
        )
        for each in given:
            item = message.resources.add(name=each.name, version=each.version)
            item.resource.type_url, item.resource.value = type_url, each.body
    return bytes(message.SerializeToString())


def subscription(variant: str, type_url: str, names: Sequence[str], node: str) -> bytes:
    """Return a first request; no names ask for everything."""
    if variant == "sotw":
        message = MESSAGES["Request"](type_url=type_url, resource_names=names)
    else:
        message = MESSAGES["DeltaRequest"](type_url=type_url, resource_names_subscribe=names)
    if node:
        message.node.id, message.node.cluster = node, "benchmark"
    return bytes(message.SerializeToString())


def head(raw: bytes) -> tuple[str, str, str]:
    """Return version, type and nonce of a response of either variant."""
    read = MESSAGES["Head"].FromString(raw)
    return read.version_info, read.type_url, read.nonce


def acknowledgement(
    variant: str, type_url: str, names: Sequence[str], version: str, nonce: str
) -> bytes:
    """Return an ACK."""
    if variant == "sotw":
        message = MESSAGES["Request"](
            version_info=version, resource_names=names, type_url=type_url, response_nonce=nonce
        )
    else:
        message = MESSAGES["DeltaRequest"](type_url=type_url, response_nonce=nonce)
    return bytes(message.SerializeToString())
