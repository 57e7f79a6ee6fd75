"""TLS under a connection, against OpenSSL on the other side and against what is no TLS."""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from ottla.base.world import TLS_REFUSED, FileRange, Tls, TlsError
from ottla.host.connection import TlsConnection
from ottla.host.tls import TlsSocket
from tests.host.conftest import Peer
from tests.tools.certificates import Certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(certificates):
    return certificates.issue("server", "127.0.0.1", "localhost")


@contextlib.asynccontextmanager
async def serving(serve, context):
    """A TLS server; gives its port. `serve(reader, writer)` has each connection."""
    tasks = set()

    async def served(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await serve(reader, writer)
        writer.close()

    listening = await asyncio.start_server(served, "127.0.0.1", 0, ssl=context)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        for task in tasks:
            task.cancel()
        listening.close()
        await asyncio.gather(*tasks)


def answering(context, times):
    """A server on blocking sockets, which sends alerts where asyncio's just closes; gives its port
    and a call that serves `times` connections: what one sends comes back once."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listening:
            for _ in range(times):
                sock, _ = listening.accept()
                with (
                    contextlib.suppress(OSError),
                    context.wrap_socket(sock, server_side=True) as it,
                ):
                    it.sendall(it.recv(100))
                    it.recv(1)
                sock.close()

    return listening.getsockname()[1], serve


async def echo(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


async def connected(here, port, tls, *, host="127.0.0.1", frame=1):
    peers = []

    def handler(connection):
        peers.append(Peer(connection, frame))
        return peers[0]

    await here.world.network.connect(host, port, handler, tls=tls)
    return peers[0]


def run(place, certificates, path, script, *, serve=echo, **options):
    async def test():
        context = certificates.server(path, **options)
        async with place() as here, serving(serve, context) as port:
            await script(here, port)

    asyncio.run(test())


def test_much_goes_both_ways_and_pauses_hold(place, certificates, server, noise):
    async def script(here, port):
        ours = await connected(here, port, Tls(cafile=certificates.ca), frame=1_000)
        assert isinstance(ours.connection, TlsConnection)
        # Parts as requests have them: short ones, one that fills many records, an empty one.
        parts = [noise[:7], noise[7:300], noise[300 : 2 << 20], b"", noise[2 << 20 :]]
        pauses = []

        def pause_now_and_then():
            if len(ours.data) >= (len(pauses) + 1) * 200_000:
                ours.connection.pause()
                pauses.append(here.loop.call_soon(here.loop.call_soon, ours.connection.resume))

        ours.on_received = pause_now_and_then
        ours.connection.send(parts)
        await ours.until(lambda p: len(p.data) + 1_000 > len(noise))
        assert len(pauses) > 10
        assert ours.data == noise[: len(ours.data)]
        ours.connection.close()
        await ours.until(lambda p: p.causes)
        assert ours.causes == ["closed"]

    run(place, certificates, server, script)


def test_what_is_decrypted_already_is_read_on(place, certificates, server):
    """A record may hold more than what is left of the buffer behind a tail."""

    async def script(here, port):
        ours = await connected(here, port, Tls(cafile=certificates.ca), frame=4_000)
        hub = here.world.network._hub
        hub.scratch.view = hub.scratch.view[:5_000]
        ours.connection.send([b"x" * 48_000])
        await ours.until(lambda p: len(p.data) == 48_000)

    run(place, certificates, server, script)


def test_a_peer_that_does_not_read_holds_us_back(place, certificates, server):
    go_on = asyncio.Event()
    size = 20 << 20
    got = []

    async def serve(reader, writer):
        await go_on.wait()
        while sum(got) < size:
            got.append(len(await reader.read(1 << 20)))
        writer.write(b"!")
        await writer.drain()
        await reader.read()

    async def script(here, port):
        ours = await connected(here, port, Tls(cafile=certificates.ca))
        ours.connection.send([bytes(size)])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert 0 < ours.connection.unsent_bytes <= size
        go_on.set()
        await ours.until(lambda p: p.data == b"!")
        assert sum(got) == size and ours.connection.unsent_bytes == 0
        assert ours.drained_count == 1

    run(place, certificates, server, script, serve=serve)


def test_a_range_of_a_file_is_encrypted_too(place, certificates, server, noise, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(noise)

    async def script(here, port):
        ours = await connected(here, port, Tls(cafile=certificates.ca))
        file = here.world.disk.open(str(path))
        ours.connection.send([b"head", FileRange(file, 10, len(noise) - 10)])
        await ours.until(lambda p: len(p.data) == len(noise) - 6)
        assert ours.data == b"head" + noise[10:]
        file.close()

    run(place, certificates, server, script)


def test_the_other_side_goes_in_peace(place, certificates, server):
    async def serve(reader, writer):
        writer.write(b"bye")
        await writer.drain()

    async def script(here, port):
        ours = await connected(here, port, Tls(cafile=certificates.ca))
        await ours.until(lambda p: p.causes)
        assert ours.data == b"bye" and ours.causes == ["closed by peer"]

    run(place, certificates, server, script, serve=serve)


async def told(here, port, tls, host="127.0.0.1"):
    before = len(here.world.network._hub.connections)
    with pytest.raises(OSError) as failure:
        await connected(here, port, tls, host=host)
    assert len(here.world.network._hub.connections) == before
    return failure.value


def test_certificates_that_are_not_believed(place, certificates, server, tmp_path):
    other = Certificates(tmp_path)
    elsewhere = certificates.issue("elsewhere", "kafka.example.org")
    expired = certificates.expired("expired", "127.0.0.1")

    def check(path, tls, cause):
        async def script(here, port):
            failure = await told(here, port, tls)
            assert isinstance(failure, TlsError) and cause in str(failure), failure

        run(place, certificates, path, script)

    check(server, Tls(cafile=other.ca), "unable to get local issuer")
    check(server, Tls(), "unable to get local issuer")
    check(elsewhere, Tls(cafile=certificates.ca), "IP address mismatch")
    check(expired, Tls(cafile=certificates.ca), "has expired")

    async def unchecked(here, port):
        tls = Tls(cafile=certificates.ca, check_hostname=False)
        await connected(here, port, tls)
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        await connected(here, port, Tls(context=trusting))

    run(place, certificates, elsewhere, unchecked)


def test_the_name_that_was_asked_for_is_checked(place, certificates, server):
    async def script(here, port):
        await connected(here, port, Tls(cafile=certificates.ca), host="localhost")
        failure = await told(here, port, Tls(cafile=certificates.ca), host="")
        assert isinstance(failure, TlsError) and "no host name" in str(failure)

    run(place, certificates, server, script)


def test_a_client_with_a_certificate_and_one_without(place, certificates, server):
    me = certificates.issue("me", "someone")

    async def test():
        port, serve = answering(certificates.server(server, asks=True), 2)
        async with place() as here:
            serving = asyncio.ensure_future(asyncio.to_thread(serve))
            ours = await connected(here, port, Tls(cafile=certificates.ca, certfile=me))
            ours.connection.send([b"hello"])
            await ours.until(lambda p: p.data == b"hello")
            ours.connection.close()
            # With TLS 1.3 the handshake is over before the server looks for it.
            nobody = await connected(here, port, Tls(cafile=certificates.ca))
            await nobody.until(lambda p: p.causes)
            (cause,) = nobody.causes
            assert TLS_REFUSED in cause and "certificate required" in cause
            await serving

    asyncio.run(test())


def test_an_old_version_is_not_spoken(place, certificates, server):
    async def test():
        context = certificates.server(server)
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        port, serve = answering(context, 1)
        async with place() as here:
            serving = asyncio.ensure_future(asyncio.to_thread(serve))
            failure = await told(here, port, Tls(cafile=certificates.ca))
            assert isinstance(failure, TlsError) and "protocol version" in str(failure)
            await serving

    asyncio.run(test())


@pytest.mark.parametrize(
    ("said", "kind", "cause"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", TlsError, "is it a plaintext listener?"),
        (b"\0\0\0\x0aabcdefghij", TlsError, "is it a plaintext listener?"),
        (b"", ConnectionResetError, "is it a plaintext listener?"),
        (b"\x15\x03\x03\0\x02\x02\x28", TlsError, TLS_REFUSED),
    ],
)
def test_what_answers_is_no_tls(place, certificates, said, kind, cause):
    async def serve(reader, writer):
        await reader.read(10)
        writer.write(said)
        await writer.drain()

    async def test():
        async with place() as here, serving(serve, None) as port:
            failure = await told(here, port, Tls(cafile=certificates.ca))
            assert type(failure) is kind and cause in str(failure), failure

    asyncio.run(test())


def test_who_gives_up_during_the_handshake_leaves_nothing_behind(place, certificates):
    came = asyncio.Event()

    async def silent(reader, writer):
        await reader.read(1)
        came.set()
        await reader.read()

    async def test():
        async with place() as here, serving(silent, None) as port:
            waiting = asyncio.ensure_future(connected(here, port, Tls(cafile=certificates.ca)))
            await came.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not here.world.network._hub.connections

    asyncio.run(test())


def test_files_that_are_not_good_are_named(place, certificates, tmp_path):
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    ca = certificates.ca

    async def test():
        async with place() as here:
            for tls, cause in (
                (Tls(cafile="nowhere.pem"), "ssl_cafile 'nowhere.pem': No such file"),
                (Tls(cafile=str(garbage)), f"ssl_cafile '{garbage}'"),
                (Tls(cafile=str(empty)), f"ssl_cafile '{empty}'"),
                (Tls(cafile=ca, certfile="nowhere.pem"), "ssl_certfile 'nowhere.pem'"),
                (Tls(cafile=ca, certfile=ca), "ssl_certfile"),
                (Tls(context="mine"), "ssl_context is no ssl.SSLContext"),
                (Tls(context={}), "ssl_context is no ssl.SSLContext"),
                (Tls(context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), "ssl_context is a server's"),
            ):
                failure = await told(here, 1, tls)
                assert isinstance(failure, TlsError) and cause in str(failure), failure

    asyncio.run(test())


def test_a_key_with_a_password(place, certificates, server, tmp_path):
    from cryptography.hazmat.primitives import serialization as forms

    me = certificates.issue("locked", "someone")
    pem = Path(me).read_bytes()
    key = forms.load_pem_private_key(pem, None)
    locked = tmp_path / "key.pem"
    locked.write_bytes(
        key.private_bytes(
            forms.Encoding.PEM,
            forms.PrivateFormat.PKCS8,
            forms.BestAvailableEncryption(b"open sesame"),
        )
    )
    chain = tmp_path / "chain.pem"
    chain.write_bytes(pem[pem.index(b"-----BEGIN CERTIFICATE") :])
    files = {"cafile": certificates.ca, "certfile": str(chain), "keyfile": str(locked)}

    async def script(here, port):
        ours = await connected(here, port, Tls(**files, password="open sesame"))
        ours.connection.send([b"hello"])
        await ours.until(lambda p: p.data == b"hello")
        for password in ("wrong", None):
            failure = await told(here, port, Tls(**files, password=password))
            assert isinstance(failure, TlsError) and "ssl_keyfile" in str(failure)

    run(place, certificates, server, script, asks=True)


def test_it_serves_too(place, certificates, server):
    """The listener's side of the same socket: the first receive finishes the handshake."""

    async def test():
        async with place() as here:
            listening = socket.create_server(("127.0.0.1", 0))
            listening.setblocking(False)
            trusting = ssl.create_default_context(cafile=certificates.ca)

            async def call():
                port = listening.getsockname()[1]
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
                writer.write(b"hello")
                heard = await reader.readexactly(7)
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
                return heard

            calling = asyncio.ensure_future(call())
            sock, address = await here.loop.sock_accept(listening)
            secured = certificates.server(server).wrap_socket(
                sock, server_side=True, do_handshake_on_connect=False
            )
            connection = TlsConnection(
                here.world.network._hub, TlsSocket(secured), address, accepted=True
            )
            theirs = here.accept(connection)
            connection.start(theirs)
            await theirs.until(lambda p: p.data == b"hello")
            connection.send([b"wel", b"come"])
            assert await calling == b"welcome"
            await theirs.until(lambda p: p.causes)
            assert theirs.causes == ["closed by peer"]
            listening.close()

    asyncio.run(test())
