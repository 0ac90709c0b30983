"""Envoy's messages as JSON: the same as the libraries write, in the names of the .proto files."""

import contextlib
import datetime as dt
import json

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterLbPolicy,
    OutlierDetection,
)
from envoy_data_plane.envoy.config.core.v3 import Metadata, RuntimeDouble
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.google.protobuf import Any, Struct, Value
from google.protobuf import (
    any_pb2,
    duration_pb2,
    empty_pb2,
    json_format,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from hypothesis import given
from hypothesis import strategies as st

from xds.encode import delimited, encode
from xds.resource import CLUSTER, ROUTE
from xds.rest.protojson import Unreadable, any_json

CLUSTERS = [
    Cluster(name="a"),
    Cluster(name="a", type=ClusterDiscoveryType.EDS, connect_timeout=dt.timedelta(seconds=1.5)),
    Cluster(name="a", lb_policy=ClusterLbPolicy.MAGLEV, alt_stat_name="ü"),
    Cluster(
        name="a",
        outlier_detection=OutlierDetection(consecutive_gateway_failure=0, interval=dt.timedelta(1)),
    ),
    Cluster(name="a", typed_extension_protocol_options={"x": Any.pack(Router())}),
]
ROUTES = [
    RouteConfiguration(name="r", virtual_hosts=[]),
    RouteConfiguration(
        name="r",
        internal_only_headers=["x", "y"],
        virtual_hosts=[
            VirtualHost(
                name="v",
                domains=["*"],
                routes=[
                    Route(
                        match=RouteMatch(prefix="", headers=[HeaderMatcher(name="h")]),
                        route=RouteAction(cluster="", timeout=dt.timedelta()),
                    )
                ],
                typed_per_filter_config={"f": Any.pack(Router(dynamic_stats=False))},
            )
        ],
    ),
]


def plain(value):
    """Return betterproto's JSON in the names of the .proto files, durations in our form."""
    if isinstance(value, dict):
        return {snake(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return f"{float(value[:-1]):g}s" if isinstance(value, str) and is_seconds(value) else value


def snake(name):
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def is_seconds(text):
    return text.endswith("s") and text[:-1].replace(".", "").isdigit()


@pytest.mark.parametrize(
    ("type_url", "message"), [(CLUSTER, m) for m in CLUSTERS] + [(ROUTE, m) for m in ROUTES]
)
def test_a_message_reads_as_the_library_says(type_url, message):
    said = any_json(type_url, encode(message))
    assert said.pop("@type") == type_url
    assert plain(said) == plain(message.to_dict())


def test_fields_have_the_names_of_the_proto_files_and_enums_theirs():
    said = any_json(CLUSTER, encode(CLUSTERS[1]))
    assert said == {"@type": CLUSTER, "name": "a", "type": "EDS", "connect_timeout": "1.5s"}
    found = any_json(CLUSTER, encode(CLUSTERS[3]))["outlier_detection"]
    assert found == {"interval": "86400s", "consecutive_gateway_failure": 0}


def test_what_is_packed_into_any_is_written_out_at_any_depth():
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    said = any_json(CLUSTER, encode(CLUSTERS[4]))
    assert said["typed_extension_protocol_options"] == {"x": {"@type": router}}


def test_metadata_is_plain_json():
    values = {"a": Value(bool_value=False), "b": Value(number_value=1.5)}
    message = Cluster(name="a", metadata=Metadata(filter_metadata={"f": Struct(fields=values)}))
    said = any_json(CLUSTER, encode(message))
    assert said["metadata"] == {"filter_metadata": {"f": {"a": False, "b": 1.5}}}


def test_a_message_in_two_pieces_is_one_and_a_list_in_two_pieces_is_one():
    first = Cluster(outlier_detection=OutlierDetection(interval=dt.timedelta(seconds=1)))
    second = Cluster(outlier_detection=OutlierDetection(split_external_local_origin_errors=True))
    said = any_json(CLUSTER, encode(first) + encode(second))
    assert said["outlier_detection"] == {
        "interval": "1s",
        "split_external_local_origin_errors": True,
    }
    host = encode(VirtualHost(name="v"))
    said = any_json(ROUTE, delimited(2, host) + delimited(2, host))
    assert said["virtual_hosts"] == [{"name": "v"}, {"name": "v"}]


KNOWN = [
    duration_pb2.Duration(seconds=-1, nanos=-500_000_000),
    duration_pb2.Duration(),
    timestamp_pb2.Timestamp(seconds=1_700_000_000, nanos=1_000),
    empty_pb2.Empty(),
    wrappers_pb2.BoolValue(value=True),
    wrappers_pb2.BoolValue(),
    wrappers_pb2.Int64Value(value=-(1 << 62)),
    wrappers_pb2.UInt32Value(value=(1 << 32) - 1),
    wrappers_pb2.DoubleValue(value=0.25),
    wrappers_pb2.DoubleValue(),
    wrappers_pb2.FloatValue(value=float("inf")),
    wrappers_pb2.StringValue(value="ü"),
    wrappers_pb2.BytesValue(value=b"\xff"),
]


@pytest.mark.parametrize("message", KNOWN, ids=lambda m: type(m).__name__)
def test_a_well_known_type_reads_as_google_says(message):
    packed = any_pb2.Any()
    packed.Pack(message)
    ours, theirs = any_json(packed.type_url, packed.value), json_format.MessageToDict(packed)
    if isinstance(message, duration_pb2.Duration | timestamp_pb2.Timestamp):
        # Google pads a fraction to three, six or nine digits; both are allowed.
        for said in (ours, theirs):
            said["value"] = said["value"].replace("500s", "5s").replace(".000001000", ".000001")
    if isinstance(message, empty_pb2.Empty):
        theirs["value"] = {}
    assert ours == theirs


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), values))
def test_any_struct_comes_back_as_it_was(given_):
    struct = struct_pb2.Struct()
    struct.update(given_)
    url = "type.googleapis.com/google.protobuf.Struct"
    assert any_json(url, struct.SerializeToString())["value"] == given_


@given(st.binary(max_size=60))
def test_whatever_the_bytes_are_there_is_json_or_an_error_of_ours(raw):
    with contextlib.suppress(Unreadable):
        json.dumps(any_json(ROUTE, raw), allow_nan=False)


def test_an_unknown_type_is_refused_by_name():
    with pytest.raises(Unreadable, match=r"type .*no\.Such': unknown"):
        any_json("type.googleapis.com/no.Such", b"")


def test_numbers_that_are_not_finite_are_text():
    url = "type.googleapis.com/envoy.config.core.v3.RuntimeDouble"
    said = any_json(url, encode(RuntimeDouble(default_value=float("nan"), runtime_key="k")))
    assert said == {"@type": url, "default_value": "NaN", "runtime_key": "k"}
