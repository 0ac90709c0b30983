"""A gRPC server for a mesh: it listens on PORT and says what reached it.

``Say`` answers its metadata as JSON; ``Fail`` ends with the status that the request names;
``Count`` answers 0, 1, 2 ... as many as the request says; ``Echo`` answers each message with
itself; ``Drip`` answers one message after another until its client has enough.
``Feel`` says what its health service shall say: ``well``, or anything else.
"""

import asyncio
import json
import os

import grpc
import grpc.aio


async def say(request, context):
    told = {key: str(value) for key, value in context.invocation_metadata()}
    return json.dumps({"said": request.decode(), "metadata": told}).encode()


async def fail(request, context):
    await context.abort(grpc.StatusCode[request.decode()], "as asked")


async def count(request, _context):
    for number in range(int(request)):
        yield str(number).encode()


state = {"well": True}


async def feel(request, _context):
    state["well"] = request == b"well"
    return b""


async def check(_request, _context):
    return b"\x08\x01" if state["well"] else b"\x08\x02"


async def drip(_request, _context):
    while True:
        yield b"drop"
        await asyncio.sleep(0.05)


async def echo(requests, _context):
    async for request in requests:
        yield request


async def main():
    server = grpc.aio.server()
    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Feel": grpc.unary_unary_rpc_method_handler(feel),
        "Drip": grpc.unary_stream_rpc_method_handler(drip),
        "Echo": grpc.stream_stream_rpc_method_handler(echo),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    health = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    service = grpc.method_handlers_generic_handler("grpc.health.v1.Health", health)
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"127.0.0.1:{os.environ['PORT']}")
    await server.start()
    await server.wait_for_termination()


asyncio.run(main())
