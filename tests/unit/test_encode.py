"""The compiled encoder writes the bytes of ``bytes(message)``."""

from datetime import timedelta

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    HeaderValue,
    HeaderValueOption,
    Http2ProtocolOptions,
    Locality,
    Metadata,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    RetryPolicy,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    Rds,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any, Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from xds.encode import delimited, encode, resource, varint
from xds.resource import CLUSTER

ADS = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)
texts = st.text(max_size=20)
seconds = st.integers(0, 10**6).map(lambda us: timedelta(microseconds=us))
u32 = st.integers(0, (1 << 32) - 1)


def http2():
    config = HttpProtocolOptionsExplicitHttpConfig(
        http2_protocol_options=Http2ProtocolOptions(max_concurrent_streams=100)
    )
    return Any.pack(HttpProtocolOptions(explicit_http_config=config))


@st.composite
def clusters(draw):
    return Cluster(
        name=draw(texts),
        type=draw(st.sampled_from([ClusterDiscoveryType.EDS, ClusterDiscoveryType.STATIC])),
        eds_cluster_config=ClusterEdsClusterConfig(eds_config=ADS, service_name=draw(texts)),
        connect_timeout=draw(seconds),
        lb_policy=draw(st.sampled_from(list(ClusterLbPolicy))),
        per_connection_buffer_limit_bytes=draw(st.none() | u32),
        circuit_breakers=CircuitBreakers(
            thresholds=[
                CircuitBreakersThresholds(max_connections=n)
                for n in draw(st.lists(u32, max_size=3))
            ]
        ),
        outlier_detection=draw(
            st.none() | st.builds(OutlierDetection, consecutive_5xx=st.none() | u32)
        ),
        typed_extension_protocol_options=draw(
            st.just({}) | st.dictionaries(texts, st.builds(http2), max_size=2)
        ),
    )


@st.composite
def assignments(draw):
    def endpoint(port):
        address = SocketAddress(address="10.0.0.1", port_value=port)
        values = draw(st.dictionaries(texts, texts, max_size=2))
        fields = {k: Value(string_value=v) for k, v in values.items()}
        return LbEndpoint(
            endpoint=Endpoint(address=Address(socket_address=address)),
            metadata=Metadata(filter_metadata={"envoy.lb": Struct(fields=fields)}),
            load_balancing_weight=draw(st.none() | u32),
        )

    ports = draw(st.lists(st.integers(0, 65535), max_size=3))
    locality = LocalityLbEndpoints(
        locality=Locality(region=draw(texts)), lb_endpoints=[endpoint(port) for port in ports]
    )
    return ClusterLoadAssignment(cluster_name=draw(texts), endpoints=[locality])


@st.composite
def route_configurations(draw):
    def route(weight):
        weighted = WeightedCluster(
            clusters=[WeightedClusterClusterWeight(name=draw(texts), weight=weight)]
        )
        header = HeaderMatcher(name=draw(texts), string_match=StringMatcher(exact=draw(texts)))
        return Route(
            name=draw(texts),
            match=RouteMatch(prefix=draw(texts), headers=[header]),
            route=RouteAction(
                weighted_clusters=weighted,
                timeout=draw(st.none() | seconds),
                retry_policy=RetryPolicy(retry_on="5xx", num_retries=draw(st.none() | u32)),
            ),
            request_headers_to_add=[
                HeaderValueOption(header=HeaderValue(key=draw(texts), raw_value=draw(st.binary())))
            ],
        )

    routes = [route(weight) for weight in draw(st.lists(u32, max_size=3))]
    domains = draw(st.lists(texts, max_size=3))
    host = VirtualHost(name=draw(texts), domains=domains, routes=routes)
    return RouteConfiguration(
        name=draw(texts),
        virtual_hosts=[host],
        validate_clusters=draw(st.none() | st.booleans()),
        most_specific_header_mutations_wins=draw(st.booleans()),
    )


@st.composite
def listeners(draw):
    manager = HttpConnectionManager(
        stat_prefix=draw(texts),
        rds=Rds(config_source=ADS, route_config_name=draw(texts)),
        http_filters=[HttpFilter(name="router", typed_config=Any.pack(Router()))],
        use_remote_address=draw(st.none() | st.booleans()),
        stream_idle_timeout=draw(seconds),
    )
    chain = FilterChain(filters=[Filter(name=draw(texts), typed_config=Any.pack(manager))])
    address = SocketAddress(address="127.0.0.1", port_value=draw(st.integers(0, 65535)))
    return Listener(
        name=draw(texts), address=Address(socket_address=address), filter_chains=[chain]
    )


@given(st.one_of(clusters(), assignments(), route_configurations(), listeners()))
def test_the_bytes_are_those_of_the_slow_encoder(message):
    raw = encode(message)
    assert raw == bytes(message)
    assert type(message).parse(raw) == message


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | texts, st.lists))
def test_json_values_of_any_shape_are_the_same(value):
    def build(each):
        match each:
            case None:
                return Value()
            case bool():
                return Value(bool_value=each)
            case float():
                return Value(number_value=each)
            case str():
                return Value(string_value=each)
            case _:
                from_list = Struct(fields={str(i): build(v) for i, v in enumerate(each)})
                return Value(struct_value=from_list)

    message = build(value)
    assert encode(message) == bytes(message)


def test_set_but_empty_messages_are_written():
    message = RouteConfiguration(virtual_hosts=[VirtualHost(), VirtualHost()])
    assert encode(message) == bytes(message) == b"\x12\x00\x12\x00"


def test_unknown_fields_are_kept():
    message = Locality.parse(bytes(Locality(region="r")) + delimited(99, b"later"))
    assert encode(message) == bytes(message)
    assert delimited(99, b"later") in encode(message)


@pytest.mark.parametrize(
    ("number", "raw"),
    [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (1 << 63, b"\x80" * 9 + b"\x01")],
)
def test_varints_are_those_of_the_specification(number, raw):
    assert varint(number) == raw


def test_a_negative_varint_takes_ten_bytes():
    assert varint(-1) == b"\xff" * 9 + b"\x01"


def test_a_resource_holds_the_encoded_message():
    message = Cluster(name="c")
    assert resource(CLUSTER, "c", message).body == bytes(message)
