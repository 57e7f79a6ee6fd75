"""TLS under a connection: a socket that encrypts, its handshake, and what it is configured with.

    HostConnection ── recv_into, send, sendmsg ──> TlsSocket ──> ssl.SSLSocket ──> the peer

A `TlsSocket` has the calls of a non-blocking socket that the outbox and the inbox make, and keeps
what they mean: BlockingIOError where it must wait, a count of what went out. So all that is built
on a plain socket (pauses, the send queue, the pool of memory) stays as it is. Two things differ:
- A send that must wait has its record half written inside. The next send must begin with the same
  bytes; the queue of a connection, which drops only what was counted, does that by itself.
- What is decrypted and not read yet makes no socket readable: `TlsConnection` asks for `pending`.

It serves either side. The handshake is finished by `shake_hands`, or by the first receive.

The peer that goes without a word of TLS has closed: frames say by themselves whether they are
whole. Renegotiation is refused (`OP_NO_RENEGOTIATION`; TLS 1.3 has none).

Rejected: asyncio's transports (a protocol of their own, a copy of everything, no sendfile beside);
memory BIOs (two more buffers, which the bounds of the pool would have to count).
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from ottla.base.world import TLS_REFUSED, Bytes, Tls, TlsError

RECORD_BYTES: Final = 16 * 1024
SEND_BYTES: Final = 1 << 20
"""Most that one send encrypts."""
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})


class TlsSocket:
    __slots__ = ("_socket",)

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:
        self._socket.setblocking(flag)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self._socket.setsockopt(level, option, value)

    def getsockname(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()[:2]
        return host, port

    def pending(self) -> int:
        """How many bytes can be received without the peer."""
        return self._socket.pending()

    def recv_into(self, view: memoryview) -> int:
        """Of one record at most."""
        try:
            return self._socket.recv_into(view)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError(errno.EAGAIN, "no whole record yet") from None
        except ssl.SSLError as error:
            raise failure_of(error) from error

    def send(self, data: Bytes) -> int:
        view = memoryview(data)[:SEND_BYTES]
        sent = 0
        try:
            while sent < len(view):
                sent += self._socket.send(view[sent:])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not sent:
                raise BlockingIOError(errno.EAGAIN, "the peer takes no more") from None
        return sent

    def sendmsg(self, views: Sequence[Bytes], ancillary: Sequence[object], flags: int) -> int:
        """The first of them; short ones together, as far as they fill a record."""
        if len(views[0]) >= RECORD_BYTES:
            return self.send(views[0])
        gathered = bytearray()
        for view in views:
            gathered += view[: RECORD_BYTES - len(gathered)]
            if len(gathered) == RECORD_BYTES:
                break
        return self.send(gathered)

    def close(self) -> None:
        """Tell the peer, if that can be done at once; its own word is not waited for."""
        with suppress(OSError, ValueError):
            self._socket.unwrap()
        self._socket.close()


Socket = socket.socket | TlsSocket


async def shake_hands(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, context: ssl.SSLContext, host: str
) -> TlsSocket:
    """TLS as the client over a connected socket, which belongs to the outcome from here on.
    TlsError where that cannot be, OSError where the peer went meanwhile."""
    try:
        secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    except ValueError as error:
        raise TlsError(f"TLS: {host!r} is no host name") from error
    try:
        while True:
            try:
                secured.do_handshake()
                return TlsSocket(secured)
            except ssl.SSLWantReadError:
                await _ready(secured, loop.add_reader, loop.remove_reader)
            except ssl.SSLWantWriteError:
                await _ready(secured, loop.add_writer, loop.remove_writer)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError) as error:
        secured.close()
        cause = "closed in the TLS handshake: is it a plaintext listener?"
        raise OSError(errno.ECONNRESET, cause) from error
    except ssl.SSLError as error:
        secured.close()
        raise failure_of(error) from error
    except BaseException:
        secured.close()
        raise


async def _ready(
    sock: ssl.SSLSocket, add: Callable[..., object], remove: Callable[..., object]
) -> None:
    ready = asyncio.Event()
    add(sock, ready.set)
    try:
        await ready.wait()
    finally:
        remove(sock)


def failure_of(error: ssl.SSLError) -> TlsError:
    """What OpenSSL says, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsError(f"the certificate is not believed: {error.verify_message}")
    reason = error.reason or str(error)
    if reason in _NO_TLS:
        return TlsError("what answers is no TLS: is it a plaintext listener?")
    text = reason.replace("_", " ").lower()
    return TlsError(f"{TLS_REFUSED}: {text}" if "ALERT" in reason else f"TLS: {text}")


def client_context(tls: Tls) -> ssl.SSLContext:
    """Blocks: it reads files. TlsError names the one that is not good."""
    if tls.context is not None:
        if not isinstance(tls.context, ssl.SSLContext):
            raise TlsError("ssl_context is no ssl.SSLContext")
        if tls.context.protocol == ssl.PROTOCOL_TLS_SERVER:
            raise TlsError("ssl_context is a server's")
        return tls.context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.check_hostname = tls.check_hostname
    if tls.cafile is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(tls.cafile)
        except OSError as error:
            raise TlsError(f"ssl_cafile {tls.cafile!r}: {_cause(error)}") from error
    if tls.certfile is not None:
        password = tls.password or ""
        try:  # a password that is called for is never asked of a terminal
            context.load_cert_chain(tls.certfile, tls.keyfile, lambda: password)
        except OSError as error:
            names = f"{tls.certfile!r}, ssl_keyfile {tls.keyfile!r}"
            raise TlsError(f"ssl_certfile {names}: {_cause(error)}") from error
    return context


def _cause(error: OSError) -> str:
    if not isinstance(error, ssl.SSLError):
        return error.strerror or str(error)
    reason = error.reason or "is it PEM, and ssl_password the right one?"
    return reason.replace("_", " ").lower()
