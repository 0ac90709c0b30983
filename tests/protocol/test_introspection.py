"""What the port says about itself, to the clients that gRPC itself ships."""

import asyncio
from contextlib import asynccontextmanager, suppress

import grpc
import grpc.aio
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from wherry.clock import SystemClock
from wherry.protobuf import messages
from xds.csds.server import ClientStatus
from xds.health.server import Health
from xds.heartbeat import SERVICE as REGISTRY
from xds.introspection import wire
from xds.introspection.catalogue import SERVICES, TABLES, served
from xds.introspection.descriptors import Descriptors, Method, Service
from xds.introspection.port import introspection
from xds.introspection.reflection import Reflection
from xds.introspection.serving import SERVICE, Serving
from xds.load.server import SERVICE as LRS
from xds.load.server import Loads

BOUND = 20.0
SERVES, SERVES_NOT, UNKNOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
    health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
)


class Nobody:
    def proxies(self):
        return ()


@asynccontextmanager
async def running(*handlers):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def asked(serving):
    async with (
        running(serving.handler()) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield health_pb2_grpc.HealthStub(channel)


def question(service=""):
    return health_pb2.HealthCheckRequest(service=service)


async def test_the_port_and_each_service_serve_until_told_otherwise():
    serving = Serving(["a", "b"])
    async with asked(serving) as stub:
        assert [(await stub.Check(question(n))).status for n in ("", "a")] == [SERVES, SERVES]
        serving.set("a", serving=False)
        assert (await stub.Check(question("a"))).status == SERVES_NOT
        serving.drain()
        serving.set("b", serving=True)
        listed = await stub.List(health_pb2.HealthListRequest())
        assert {name: each.status for name, each in listed.statuses.items()} == {
            "": SERVES_NOT,
            "a": SERVES_NOT,
            "b": SERVES_NOT,
        }


async def test_a_service_that_is_not_here_is_not_found():
    async with asked(Serving([])) as stub:
        with pytest.raises(grpc.aio.AioRpcError, match="expected one of ours") as caught:
            await stub.Check(question("ghost"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_hears_each_change_also_of_a_service_that_comes_later():
    serving = Serving(["a"])
    async with asked(serving) as stub:
        known, coming = stub.Watch(question("a")), stub.Watch(question("later"))
        assert (await known.read()).status == SERVES
        assert (await coming.read()).status == UNKNOWN
        serving.set("later", serving=True)
        assert (await coming.read()).status == SERVES
        serving.drain()
        assert (await known.read()).status == SERVES_NOT
        assert (await coming.read()).status == SERVES_NOT
        known.cancel()
        coming.cancel()


async def test_one_watcher_too_many_is_refused():
    async with asked(Serving([], watchers=1)) as stub:
        first = stub.Watch(question())
        await first.read()
        second = stub.Watch(question())
        assert await second.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()


async def test_a_health_question_that_is_none_is_refused():
    async with (
        running(Serving([]).handler()) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        for raw in (b"\xff\xff", question("x" * 2000).SerializeToString()):
            with pytest.raises(grpc.aio.AioRpcError, match="expected") as caught:
                await channel.unary_unary(f"/{SERVICE}/Check")(raw)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def handlers():
    return [
        Loads(SystemClock()).handler(),
        ClientStatus(Nobody()).handler(),
        Health(SystemClock()).handler(),
    ]


async def test_a_real_reflection_client_learns_to_call_a_service_it_knows_nothing_of():
    extra, _ = introspection(handlers())
    async with running(*handlers(), *extra) as address:

        def learn():
            with grpc.insecure_channel(address) as channel:
                database = ProtoReflectionDescriptorDatabase(channel)
                pool = DescriptorPool(database)
                names = sorted(database.get_services())
                services = {name: pool.FindServiceByName(name) for name in names}
                fetch = services[
                    "envoy.service.status.v3.ClientStatusDiscoveryService"
                ].FindMethodByName("FetchClientStatus")
                request = message_factory.GetMessageClass(fetch.input_type)
                answer = message_factory.GetMessageClass(fetch.output_type)
                call = channel.unary_unary(
                    f"/{fetch.containing_service.full_name}/{fetch.name}",
                    request_serializer=request.SerializeToString,
                    response_deserializer=answer.FromString,
                )
                asking = request(exclude_resource_contents=True)
                asking.node_matchers.add().node_id.prefix = "side-"
                return services, list(call(asking, timeout=BOUND).config)

        services, configs = await asyncio.to_thread(learn)
    assert configs == []
    assert list(services) == [
        "envoy.service.health.v3.HealthDiscoveryService",
        "envoy.service.load_stats.v3.LoadReportingService",
        "envoy.service.status.v3.ClientStatusDiscoveryService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    stream = services[LRS].FindMethodByName("StreamLoadStats")
    assert stream.input_type.full_name == "envoy.service.load_stats.v3.LoadStatsRequest"
    assert (stream.client_streaming, stream.server_streaming) == (True, True)
    stats = stream.input_type.fields_by_name["cluster_stats"].message_type
    assert stats.full_name == "envoy.config.endpoint.v3.ClusterStats"
    assert stats.nested_types_by_name["DroppedRequests"].fields_by_name["category"].number == 1


async def test_every_service_that_may_be_on_the_port_can_be_described_to_a_client():
    reflection = Reflection(Descriptors(SERVICES, TABLES))
    async with running(*reflection.handlers()) as address:

        def learn():
            with grpc.insecure_channel(address) as channel:
                database = ProtoReflectionDescriptorDatabase(channel)
                pool = DescriptorPool(database)
                return {name: pool.FindServiceByName(name) for name in database.get_services()}

        found = await asyncio.to_thread(learn)
    assert {name: [m.name for m in service.methods] for name, service in found.items()} == {
        service.name: [method.name for method in service.methods] for service in SERVICES
    }
    request = found[REGISTRY].FindMethodByName("Register").input_type
    assert request.fields_by_name["labels"].message_type.GetOptions().map_entry


async def test_only_what_is_served_is_described_method_by_method():
    async def no(_, context):
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no")

    name = "envoy.service.cluster.v3.ClusterDiscoveryService"
    methods = {"DeltaClusters": grpc.stream_stream_rpc_method_handler(no)}
    (service,) = served([grpc.method_handlers_generic_handler(name, methods)])
    assert (service.name, [method.name for method in service.methods]) == (name, ["DeltaClusters"])
    with pytest.raises(ValueError, match="expected one of SERVICES"):
        served([grpc.method_handlers_generic_handler("a.b.Unheard", methods)])


async def test_the_port_watches_over_every_service_it_serves():
    extra, serving = introspection(handlers())
    async with running(*extra) as address, grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(question(LRS))).status == SERVES
        assert (await stub.Check(question(SERVICE))).status == SERVES
        serving.drain()
        assert (await stub.Check(question(LRS))).status == SERVES_NOT


@asynccontextmanager
async def reflected(**more):
    reflection = Reflection(Descriptors(SERVICES, TABLES), **more)
    async with (
        running(*reflection.handlers()) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()


async def told(call, **fields):
    await call.write(reflection_pb2.ServerReflectionRequest(host="h", **fields))
    answer = await call.read()
    assert answer.original_request == reflection_pb2.ServerReflectionRequest(host="h", **fields)
    assert answer.valid_host == "h"
    return answer


@pytest.mark.parametrize(
    "symbol",
    [
        LRS,
        f"{LRS}.StreamLoadStats",
        "envoy.config.endpoint.v3.ClusterStats.DroppedRequests",
        "envoy.config.endpoint.v3.ClusterStats.cluster_name",
        "google.protobuf.Struct",
    ],
)
async def test_a_file_is_found_by_what_it_contains(symbol):
    async with reflected() as call:
        answer = await told(call, file_containing_symbol=symbol)
        assert answer.file_descriptor_response.file_descriptor_proto
        await call.done_writing()


@pytest.mark.parametrize(
    "fields",
    [
        {"file_by_filename": "no/such.proto"},
        {"file_containing_symbol": "no.Such"},
        {"file_containing_symbol": ""},
        {"file_containing_symbol": f"{LRS}.Nothing"},
        {"file_containing_symbol": "envoy.config.endpoint.v3.ClusterStats.nothing"},
        {"all_extension_numbers_of_type": "no.Such"},
        {"all_extension_numbers_of_type": LRS},
        {"file_containing_extension": {"containing_type": "a.B", "extension_number": 5}},
    ],
)
async def test_what_is_not_here_is_an_answer_and_no_end(fields):
    async with reflected() as call:
        answer = await told(call, **fields)
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
        by_name = await told(call, file_by_filename="envoy/service/load_stats/v3.proto")
        assert len(by_name.file_descriptor_response.file_descriptor_proto) > 3
        none = await told(call, all_extension_numbers_of_type="envoy.config.core.v3.Node")
        assert list(none.all_extension_numbers_response.extension_number) == []
        await call.done_writing()


@pytest.mark.parametrize(
    ("request_", "more", "code"),
    [
        (reflection_pb2.ServerReflectionRequest(), {}, grpc.StatusCode.INVALID_ARGUMENT),
        (
            reflection_pb2.ServerReflectionRequest(file_by_filename="x" * 2000),
            {},
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            reflection_pb2.ServerReflectionRequest(host="x" * 10_000, list_services=""),
            {},
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            reflection_pb2.ServerReflectionRequest(list_services=""),
            {"streams": 0},
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
    ],
    ids=["nothing", "long-name", "long", "streams"],
)
async def test_a_reflection_stream_that_asks_too_much_or_nothing_is_ended(request_, more, code):
    async with reflected(**more) as call:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(request_)
        assert await call.code() is code


async def test_a_silent_reflection_stream_ends():
    async with reflected(idle_seconds=0.05) as call:
        assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("table", "original"),
    [
        (wire.HEALTH, health_pb2.DESCRIPTOR),
        (wire.REFLECTION_ALPHA, reflection_pb2.DESCRIPTOR),
    ],
    ids=["health", "reflection"],
)
def test_our_copies_are_like_the_originals(table, original):
    kinds = {"s": {9}, "by": {12}, "b": {8}, "i32": {5}, "enum": {14}}
    for shape in table.shapes:
        fields = original.message_types_by_name[shape.name].fields_by_name
        for field in shape.fields:
            known = fields[field.name]
            assert known.number == field.number
            assert known.type in ({11} if field.key else kinds.get(field.type, {11}))
            assert (known.containing_oneof.name if known.containing_oneof else None) == field.oneof


def test_tables_that_disagree_or_leave_a_message_out_are_refused():
    one = messages("test.one", "A(x.v1.A) n:s=1")
    other = messages("test.other", "A(x.v1.A) n:u32=1")
    with pytest.raises(TypeError, match="disagree"):
        Descriptors([], [one, other])
    with pytest.raises(TypeError):
        Descriptors([Service("x.v1.S", (Method("M", "x.v1.Gone", "x.v1.A"),))], [one])
    with pytest.raises(TypeError, match="described by no table"):
        Descriptors([Service("x.v1.S", (Method("M", "y.v1.Gone", "x.v1.A"),))], [one])
