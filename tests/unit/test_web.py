"""Pages that only this machine may read are not read through a name of somebody else's."""

import aiohttp
import pytest
from aiohttp import web

from wherry.serve import Address, bound, listening
from wherry.web import local_names_only


async def answer(_):
    return web.Response(text="ok")


async def asked(address, path, host):
    app = web.Application(middlewares=[local_names_only(address, beside=("/v3/",))])
    app.router.add_get("/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    sock = listening("test", Address())
    await web.SockSite(runner, sock).start()
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(bound(sock).url + path, headers={"Host": host}) as said,
        ):
            return said.status
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9090", 200),
        ("[::1]:9090", 200),
        ("localhost", 200),
        ("LOCALHOST.:80", 200),
        ("pilot.localhost:80", 200),
        ("evil.example", 403),
        ("evil.example:9090", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
    ],
)
async def test_on_loopback_only_numbers_and_localhost_are_answered(host, status):
    assert await asked(Address("127.0.0.1", 1), "/api", host) == status


async def test_programs_may_use_any_name_and_so_may_everybody_where_others_may_reach_us():
    assert await asked(Address("127.0.0.1", 1), "/v3/discovery:clusters", "wherry/xds") == 200
    assert await asked(Address("10.1.2.3", 1), "/api", "pilot.example") == 200
