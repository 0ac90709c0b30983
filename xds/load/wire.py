"""Load reports to our values, and what we ask for to bytes.

Source: https://github.com/envoyproxy/envoy/blob/main/api/envoy/service/load_stats/v3/lrs.proto
"""

from collections.abc import Iterable
from math import isfinite
from typing import Any

from google.protobuf.message import DecodeError

from wherry.errors import WherryError
from wherry.protobuf import messages
from xds.load.report import ClusterReport, Load, Metric, Reporter

SPEC = """
Locality(envoy.config.core.v3.Locality) region:s=1 zone:s=2 sub_zone:s=3
Node(envoy.config.core.v3.Node) id:s=1 cluster:s=2 client_features:*s=10
EndpointLoadMetricStats(envoy.config.endpoint.v3.EndpointLoadMetricStats)
    metric_name:s=1 num_requests_finished_with_metric:u64=2 total_metric_value:d=3
UnnamedEndpointLoadMetricStats(envoy.config.endpoint.v3.UnnamedEndpointLoadMetricStats)
    num_requests_finished_with_metric:u64=1 total_metric_value:d=2
UpstreamLocalityStats(envoy.config.endpoint.v3.UpstreamLocalityStats)
    locality:Locality=1 total_successful_requests:u64=2 total_requests_in_progress:u64=3
    total_error_requests:u64=4 total_issued_requests:u64=8
    cpu_utilization:UnnamedEndpointLoadMetricStats=12
    mem_utilization:UnnamedEndpointLoadMetricStats=13
    application_utilization:UnnamedEndpointLoadMetricStats=14
    load_metric_stats:*EndpointLoadMetricStats=5 priority:u32=6
DroppedRequests(envoy.config.endpoint.v3.ClusterStats.DroppedRequests)
    category:s=1 dropped_count:u64=2
ClusterStats(envoy.config.endpoint.v3.ClusterStats)
    cluster_name:s=1 cluster_service_name:s=6 upstream_locality_stats:*UpstreamLocalityStats=2
    total_dropped_requests:u64=3 dropped_requests:*DroppedRequests=5
    load_report_interval:.google.protobuf.Duration=4
LoadStatsRequest(envoy.service.load_stats.v3.LoadStatsRequest)
    node:Node=1 cluster_stats:*ClusterStats=2
LoadStatsResponse(envoy.service.load_stats.v3.LoadStatsResponse)
    clusters:*s=1 send_all_clusters:b=4 load_reporting_interval:.google.protobuf.Duration=2
"""
"""Fields that we read or write."""

MESSAGES = messages("wherry.xds.load", SPEC)

MAX_NAME = 1024
"""Most characters in one name of a report."""
MAX_FEATURES = 64
"""Most client features that are read."""

_UTILIZATION = ("cpu_utilization", "mem_utilization", "application_utilization")


class BadReport(WherryError):
    """What a client sent is no load report."""


def report_from(raw: bytes) -> tuple[Reporter | None, tuple[ClusterReport, ...]]:
    """Read a LoadStatsRequest: who reports, where it says so, and each cluster.

    Raises:
        BadReport: It is no LoadStatsRequest, or a name or number in it cannot be.
    """
    try:
        message = MESSAGES["LoadStatsRequest"].FromString(raw)
    except DecodeError as error:
        raise BadReport(f"load report: {error}, expected a LoadStatsRequest") from None
    reporter = _reporter(message.node) if message.HasField("node") else None
    return reporter, tuple(map(_cluster, message.cluster_stats))


def ask_bytes(interval_seconds: float, clusters: Iterable[str] | None) -> bytes:
    """Return the LoadStatsResponse that asks for reports.

    Args:
        interval_seconds: How often.
        clusters: Which ones; None is all.
    """
    message = MESSAGES["LoadStatsResponse"](
        clusters=sorted(clusters or ()), send_all_clusters=clusters is None
    )
    message.load_reporting_interval.FromNanoseconds(round(interval_seconds * 1e9))
    return bytes(message.SerializeToString())


def _reporter(node: Any) -> Reporter:
    features = frozenset(map(_name, node.client_features[:MAX_FEATURES]))
    return Reporter(_name(node.id), _name(node.cluster), features)


def _cluster(stats: Any) -> ClusterReport:
    if not stats.cluster_name:
        raise BadReport("load report: a cluster without a name, expected cluster_name")
    seconds = stats.load_report_interval.ToNanoseconds() / 1e9
    if seconds < 0:
        raise BadReport(f"load report: an interval of {seconds} s, expected 0 or more")
    return ClusterReport(
        cluster=_name(stats.cluster_name),
        service=_name(stats.cluster_service_name),
        seconds=seconds,
        loads=tuple(map(_load, stats.upstream_locality_stats)),
        dropped=stats.total_dropped_requests,
        dropped_by=tuple((_name(d.category), d.dropped_count) for d in stats.dropped_requests),
    )


def _load(stats: Any) -> Load:
    where = stats.locality
    metrics = [_metric(each.metric_name, each) for each in stats.load_metric_stats]
    metrics += [_metric(n, getattr(stats, n)) for n in _UTILIZATION if stats.HasField(n)]
    return Load(
        place=(_name(where.region), _name(where.zone), _name(where.sub_zone)),
        issued=stats.total_issued_requests,
        successes=stats.total_successful_requests,
        errors=stats.total_error_requests,
        in_progress=stats.total_requests_in_progress,
        metrics=tuple(metrics),
    )


def _metric(name: str, stats: Any) -> Metric:
    if not isfinite(stats.total_metric_value):
        raise BadReport(
            f"load metric {_name(name)!r}: {stats.total_metric_value}, expected a finite number"
        )
    return Metric(_name(name), stats.num_requests_finished_with_metric, stats.total_metric_value)


def _name(text: str) -> str:
    if len(text) > MAX_NAME:
        raise BadReport(
            f"load report: a name of {len(text)} characters, expected at most {MAX_NAME}"
        )
    return text
