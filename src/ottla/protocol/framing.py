"""Frames: a size, a header, a message; and the rules by which headers differ.

    request                                     response
    int32   size of what follows                int32   size of what follows
    int16   api key                             int32   correlation id
    int16   api version                         tagged fields, if the version is flexible
    int32   correlation id                      message
    string  client id, nullable, never compact
    tagged fields, if the version is flexible
    message

What goes out carries its size; what comes in is given without it, by whoever cut the stream.
A response to ApiVersions never has tagged fields in its header, since its reader may not know
yet what version the broker answers in: a broker that does not know the version of the request
answers error 35 in version 0, whatever was asked.
A decoded request views its frame where it holds records: it lives no longer than the frame.
Bytes of a request's frame behind its message are ignored, as Kafka does: librdkafka asks for the
metadata of all topics with three of them (it reserves four bytes for a count that takes one).
"""

from collections.abc import Iterable
from struct import Struct as Format
from typing import Final, NamedTuple

from ottla.base.errors import ErrorCode
from ottla.protocol.compiler import (
    decode,
    decode_error,
    decoder,
    encode_into,
    encoder,
)
from ottla.protocol.message import Request, Response
from ottla.protocol.registry import APIS, ApiKey, request_class, response_class
from ottla.protocol.source import Codec
from ottla.protocol.wire import FAULTS, DecodeError, Part, part_bytes, skip_tags

_REQUEST_HEAD: Final = Format(">hhih")
_RESPONSE_HEAD: Final = Format(">ii")
_UNSUPPORTED_VERSION_BYTES: Final = ErrorCode.UNSUPPORTED_VERSION.to_bytes(2, "big")


class RequestHeader(NamedTuple):
    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None


class UnsupportedVersion(DecodeError):
    """A request of a key or a version that is not served; its header could still be read."""

    def __init__(self, header: RequestHeader) -> None:
        super().__init__(f"api key {header.api_key} version {header.api_version} is not served")
        self.header = header


_request_decoders: dict[tuple[int, int], Codec] = {}


def read_request_header(view: memoryview, at: int) -> tuple[RequestHeader, int]:
    """The header at `at`, and where the message begins."""
    # hot: produce, fetch
    try:
        key, version, correlation_id, length = _REQUEST_HEAD.unpack_from(view, at)
        at += 10
        client_id = None
        if length >= 0:
            stop = at + length
            if stop > len(view):
                raise DecodeError(f"request header: client id of {length} bytes at byte {at}")
            client_id = str(view[at:stop], "utf-8")
            at = stop
        elif length != -1:
            raise DecodeError(f"request header: client id of {length} bytes at byte {at}")
        header = RequestHeader(key, version, correlation_id, client_id)
        api = APIS.get(key)
        if api is None or not api.first <= version <= api.last:
            raise UnsupportedVersion(header)
        if version >= api.flexible:
            count = view[at]
            at += 1
            if count:
                at = skip_tags(view, at, count)
    except FAULTS as fault:
        raise DecodeError(f"request header at byte {at} of {len(view)}: {fault}") from None
    return header, at


def decode_request(view: memoryview) -> tuple[RequestHeader, Request]:
    """The request in a frame, of a version that is served."""
    # hot: produce, fetch
    header, at = read_request_header(view, 0)
    codec = _request_decoders.get(header[:2])
    if codec is None:
        codec = _request_decoder(header.api_key, header.api_version)
    request: Request
    try:
        request, _ = codec.function(view, at)
    except FAULTS as fault:
        raise decode_error(codec, fault, view) from None
    return header, request


def _request_decoder(api_key: int, api_version: int) -> Codec:
    codec = decoder(request_class(api_key), api_version)
    _request_decoders[api_key, api_version] = codec
    return codec


def encode_response(
    api_key: int, api_version: int, correlation_id: int, response: Response
) -> list[Part]:
    """The parts of a framed response, its size in front."""
    # hot: produce, fetch
    head = bytearray(9 if _has_response_tags(api_key, api_version) else 8)
    parts: list[Part] = [head]
    encode_into(response, api_version, parts)
    _RESPONSE_HEAD.pack_into(head, 0, _total(parts) - 4, correlation_id)
    return parts


def encode_request(
    correlation_id: int, client_id: str | None, api_version: int, request: Request
) -> list[Part]:
    """The parts of a framed request, its size in front."""
    api_key = request.__api__
    if api_key is None:
        raise ValueError(f"{request.__class__.__name__} is no request of an API")
    name = b"" if client_id is None else client_id.encode()
    length = -1 if client_id is None else len(name)
    head = bytearray(4) + _REQUEST_HEAD.pack(api_key, api_version, correlation_id, length) + name
    if api_version in request.__flexible__:
        head.append(0)
    parts: list[Part] = [head]
    encode_into(request, api_version, parts)
    head[:4] = (_total(parts) - 4).to_bytes(4, "big")
    return parts


def decode_response(api_key: int, api_version: int, view: memoryview) -> tuple[int, Response]:
    """(correlation id, response) of a frame that answers a request of that version."""
    if len(view) < 4:
        raise DecodeError(f"response header: {len(view)} bytes")
    at = 4
    if _has_response_tags(api_key, api_version):
        try:
            at = skip_tags(view, 5, view[4])
        except FAULTS as fault:
            raise DecodeError(f"response header of {len(view)} bytes: {fault}") from None
    elif api_key == ApiKey.API_VERSIONS and view[4:6] == _UNSUPPORTED_VERSION_BYTES:
        api_version = 0
    response = decode(response_class(api_key), api_version, view, at)
    return int.from_bytes(view[:4], "big", signed=True), response


def _has_response_tags(api_key: int, api_version: int) -> bool:
    return api_version >= APIS[api_key].flexible and api_key != ApiKey.API_VERSIONS


def _total(parts: list[Part]) -> int:
    return sum(map(part_bytes, parts))


def compile_ahead(versions: Iterable[tuple[ApiKey, int]]) -> None:
    """Compile what serving these requests will need."""
    for api_key, version in versions:
        _request_decoder(api_key, version)
        encoder(response_class(api_key), version)
