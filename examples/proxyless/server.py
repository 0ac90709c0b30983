"""A gRPC server that joins the mesh by itself: python server.py VERSION [PILOT]."""

import asyncio
import contextlib
import signal
import sys

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import StringValue

from xds.heartbeat import heartbeat
from xds.workload import Workload


async def main(version, pilot="127.0.0.1:18000"):
    """Serve until SIGTERM or Ctrl-C; then leave the mesh first, and finish the calls at hand."""

    async def hello(name, _context):
        return StringValue(value=f"hello {name.value}, this is {version}")

    method = grpc.unary_unary_rpc_method_handler(
        hello, StringValue.FromString, StringValue.SerializeToString
    )
    server = grpc.aio.server()
    server.add_registered_method_handlers("hello.Greeter", {"Hello": method})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    me = Workload(f"greeter-{version}-{port}", "greeter", version, "127.0.0.1", port)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asyncio.current_task().cancel)
    print(f"{version} serves at port {port}", flush=True)
    try:
        await heartbeat(pilot, me)
    finally:
        await server.stop(grace=5)


with contextlib.suppress(asyncio.CancelledError):
    asyncio.run(main(*sys.argv[1:]))
