"""Certificates by discovery: rotated in a real Envoy without touching listener or cluster."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import trustme
from aiohttp import web
from support.discovery_envoy import bootstrap, every_way, running
from support.pilot import hub, pilot, publish, says, settled, until
from support.resources import cluster, endpoints, listener, made, routed, routes, typed
from support.resources import says as direct

from xds.resource import CLUSTER, LISTENER, SECRET

TLS = "envoy.extensions.transport_sockets.tls.v3"
HOST = "127.0.0.1"


def certificate(authority):
    """Return a fresh certificate as a secret, and as a client sees it."""
    issued = authority.issue_cert(HOST)
    chain = issued.cert_chain_pems[0].bytes().decode()
    key = issued.private_key_pem.bytes().decode()
    content = {"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}}
    secret = made(SECRET, "cert", {"name": "cert", "tls_certificate": content})
    return secret, ssl.PEM_cert_to_DER_cert(chain)


def trusted(authority):
    """Return a secret that says whom to trust."""
    pem = authority.cert_pem.bytes().decode()
    content = {"trusted_ca": {"inline_string": pem}}
    return made(SECRET, "trust", {"name": "trust", "validation_context": content})


def serving_tls(source):
    """Return a listener that answers by itself over TLS."""
    one = {"name": "cert", "sds_config": source}
    context = typed(
        f"{TLS}.DownstreamTlsContext",
        common_tls_context={"tls_certificate_sds_secret_configs": [one]},
    )
    return listener(
        chain={"transport_socket": {"name": "tls", "typed_config": context}},
        refs=[(SECRET, "cert")],
        route_config={
            "name": "inline",
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [direct(200, "ok", prefix="/")]}
            ],
        },
    )


class Connection:
    """A TLS connection that stays open."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        self.certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    async def status(self):
        """Send one request; return the status of the answer."""
        self._writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        head = await self._reader.readuntil(b"\r\n\r\n")
        await self._reader.readexactly(len("ok"))
        return int(head.split()[1])


@asynccontextmanager
async def connected(port, authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


@every_way
async def test_a_rotated_certificate_serves_new_connections_and_keeps_the_old_open(way, tmp_path):
    authority = trustme.CA()
    first, seen_first = certificate(authority)
    second, seen_second = certificate(authority)
    listens = serving_tls(way.source)
    of = hub(listens, first)
    async with (
        pilot(of) as server,
        running(bootstrap(server.address, way), tmp_path) as envoy,
    ):
        port = await envoy.port()
        await until(lambda: shows(port, authority, seen_first))
        async with connected(port, authority) as old:
            assert (await old.status(), old.certificate) == (200, seen_first)
            await settled(server, SECRET, LISTENER)
            listeners = server.discovery.tally.pushes[LISTENER]

            publish(of, listens, second)
            await until(lambda: shows(port, authority, seen_second))
            await settled(server)
            assert await old.status() == 200
        assert server.discovery.tally.pushes[LISTENER] == listeners
        assert await envoy.stat("listener_manager.listener_modified") == 0
        assert await envoy.stat("listener_manager.listener_create_success") == 1


async def shows(port, authority, expected):
    try:
        async with connected(port, authority) as one:
            return one.certificate == expected
    except ConnectionRefusedError:  # Envoy still waits for something
        return False


@every_way
async def test_a_refused_certificate_leaves_the_last_good_one_in_force(way, tmp_path):
    authority = trustme.CA()
    good, seen = certificate(authority)
    chain = {"inline_string": "no certificate"}
    bad = made(
        SECRET,
        "cert",
        {"name": "cert", "tls_certificate": {"certificate_chain": chain, "private_key": chain}},
    )
    of = hub(serving_tls(way.source), good)
    async with (
        pilot(of) as server,
        running(bootstrap(server.address, way), tmp_path) as envoy,
    ):
        port = await envoy.port()
        await until(lambda: shows(port, authority, seen))
        publish(of, serving_tls(way.source), bad)
        await until(lambda: refused(server))
        assert await shows(port, authority, seen)
        publish(of, serving_tls(way.source), good)
        await until(lambda: not refused(server))
        assert await shows(port, authority, seen)


def refused(server):
    return [t for s in server.streams() for t in s.types if t.error and t.parked == ("cert",)]


@every_way
async def test_a_cluster_trusts_whom_its_secret_names_at_the_time(way, tmp_path):
    known, stranger = trustme.CA(), trustme.CA()
    source = way.source
    context = typed(
        f"{TLS}.UpstreamTlsContext",
        common_tls_context={
            "validation_context_sds_secret_config": {"name": "trust", "sds_config": source}
        },
    )
    socket = {"name": "tls", "typed_config": context}
    tls = cluster("a", source, refs=[(SECRET, "trust")], transport_socket=socket)
    async with answering_tls(known) as one:
        rest = [tls, endpoints("a", one), routes("a"), routed(source)]
        of = hub(*rest, trusted(known))
        async with (
            pilot(of) as server,
            running(bootstrap(server.address, way), tmp_path) as envoy,
        ):
            port = await envoy.port()
            await says(port, 200, "one")
            await settled(server, SECRET, CLUSTER)
            clusters = server.discovery.tally.pushes[CLUSTER]
            publish(of, *rest, trusted(stranger))
            await says(port, 503)
            publish(of, *rest, trusted(known))
            await says(port, 200, "one")
            assert server.discovery.tally.pushes[CLUSTER] == clusters


@asynccontextmanager
async def answering_tls(authority):
    async def answer(_request):
        return web.Response(text="one", headers={"connection": "close"})

    app = web.Application()
    app.router.add_get("/", answer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
