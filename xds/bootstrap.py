"""The first configuration of an Envoy: where its Pilot is; all else comes from there.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/bootstrap/v3/bootstrap.proto
"""

from collections.abc import Mapping
from typing import Any

PILOT = "wherry/xds"
"""The one cluster that the bootstrap itself holds."""

CHECKERS = frozenset({"gateway", "egress"})
"""Roles whose Envoys look after programs for all; a sidecar is there for its own."""

FLUSH = 0.2
"""Seconds that an entry of an Envoy's access log waits at most."""

MAX_REGEX = 100_000
"""Largest compiled regular expression of a route; Envoy's own limit, 100, refuses common ones."""


_UNCOUNTED = {"safe_regex": {"regex": r"http\..*\.rds\.(gateway|inbound|outbound)/.*"}}
"""A dozen counters for each host name with routes of its own: 7 KiB each, and nobody reads them."""


def bootstrap(
    node: str,
    metadata: Mapping[str, Any],
    *,
    xds: tuple[str, int],
    admin: str,
    delta: bool = True,
) -> dict[str, Any]:
    """Return a bootstrap as plain data; JSON of it is what Envoy's ``--config-path`` takes.

    Args:
        node: Unique id of this Envoy.
        metadata: What it is; `xds.builders.scopes.scope_of` reads it.
        xds: Host and port of the Pilot.
        admin: Path of a unix socket for Envoy's admin interface: no port, so that only this
            user reaches it.
        delta: Ask for changes instead of the state of the world.
    """
    host, port = xds
    address = {"socket_address": {"address": host, "port_value": port}}
    source = {"ads": {}, "resource_api_version": "V3"}
    return {
        "node": {"id": node, "cluster": str(metadata.get("role", "")), "metadata": dict(metadata)},
        "admin": {"address": {"pipe": {"path": admin, "mode": 0o600}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if delta else "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": PILOT, **_AGAIN}}],
            },
            "lds_config": source,
            "cds_config": source,
        },
        "cluster_manager": {"load_stats_config": _TO_PILOT},
        **({"hds_config": _TO_PILOT} if metadata.get("role") in CHECKERS else {}),
        "static_resources": {
            "clusters": [
                {
                    "name": PILOT,
                    "type": "STRICT_DNS",
                    "connect_timeout": "1s",
                    "typed_extension_protocol_options": {_HTTP: _HTTP2},
                    "load_assignment": {
                        "cluster_name": PILOT,
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
                    },
                }
            ]
        },
        "stats_config": {"stats_matcher": {"exclusion_list": {"patterns": [_UNCOUNTED]}}},
        "layered_runtime": {
            "layers": [
                {
                    "name": "wherry",
                    "static_layer": {"re2.max_program_size.error_level": MAX_REGEX},
                }
            ]
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": _TYPE + "resource_monitors.downstream_connections.v3."
                        "DownstreamConnectionsConfig",
                        "max_active_downstream_connections": 10_000,
                    },
                }
            ]
        },
    }


def grpc_bootstrap(
    node: str,
    *,
    xds: tuple[str, int],
    service: str = "",
    locality: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the bootstrap of a gRPC client as plain data.

    JSON of it is what the file named by ``GRPC_XDS_BOOTSTRAP``, or ``GRPC_XDS_BOOTSTRAP_CONFIG``
    itself, holds.

    Args:
        node: Unique id of this client.
        xds: Host and port of the Pilot.
        service: The service that the program is part of; empty when it is none.
        locality: ``region``, ``zone`` and ``sub_zone`` where it runs, as far as known.

    Source: https://github.com/grpc/proposal/blob/master/A27-xds-global-load-balancing.md
    """
    host, port = xds
    written = f"[{host}]" if ":" in host else host
    metadata = {"role": "grpc", **({"service": service} if service else {})}
    return {
        "xds_servers": [
            {
                "server_uri": f"{written}:{port}",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {
            "id": node,
            "cluster": service or "grpc",
            "metadata": metadata,
            "locality": dict(locality or {}),
        },
    }


_AGAIN = {"retry_policy": {"retry_back_off": {"base_interval": "0.2s", "max_interval": "2s"}}}
"""How soon to look for a Pilot that went away; Envoy's own way is to wait up to 30 s."""

_TO_PILOT = {
    "api_type": "GRPC",
    "transport_api_version": "V3",
    "grpc_services": [{"envoy_grpc": {"cluster_name": PILOT}}],
}
"""Where an Envoy tells what load it sends, and asks what it is to check."""

_TYPE = "type.googleapis.com/envoy.extensions."
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HTTP2 = {
    "@type": _TYPE + "upstreams.http.v3.HttpProtocolOptions",
    "explicit_http_config": {
        "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "5s"}}
    },
}
