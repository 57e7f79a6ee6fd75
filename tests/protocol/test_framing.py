"""Headers, their rules and exceptions, sizes, and records that are not copied."""

import struct
from typing import Any, cast

import pytest

from ottla.base.errors import ErrorCode
from ottla.base.world import File, FileRange
from ottla.protocol.framing import (
    RequestHeader,
    UnsupportedVersion,
    compile_ahead,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    read_request_header,
)
from ottla.protocol.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
)
from ottla.protocol.messages.fetch import FetchableTopicResponse, FetchResponse, PartitionData
from ottla.protocol.messages.metadata import MetadataRequest, MetadataResponse
from ottla.protocol.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from ottla.protocol.registry import ApiKey
from ottla.protocol.types import Records
from ottla.protocol.wire import SMALL_RECORDS_BYTES, DecodeError, EncodeError
from tests.protocol.values import joined

FILE = cast(File, object())


def header_bytes(key: int, version: int, client_id: bytes | None = b"me") -> bytes:
    length = -1 if client_id is None else len(client_id)
    return struct.pack(">hhih", key, version, 42, length) + (client_id or b"")


def produce(records: Records | None) -> ProduceRequest:
    partition = PartitionProduceData(index=0, records=records)
    topic = TopicProduceData(name="t", partition_data=[partition])
    return ProduceRequest(acks=-1, timeout_ms=1, topic_data=[topic])


def fetched(*records: Records | None) -> FetchResponse:
    partitions = [
        PartitionData(partition_index=index, high_watermark=9, records=each)
        for index, each in enumerate(records)
    ]
    return FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=partitions)])


@pytest.mark.parametrize("client_id", ["me", "", None, "grüße"])
@pytest.mark.parametrize("version", [1, 8, 9, 12])
def test_a_request_comes_back_with_its_header(version: int, client_id: str | None) -> None:
    frame = joined(encode_request(42, client_id, version, MetadataRequest(topics=None)))
    assert struct.unpack_from(">i", frame)[0] == len(frame) - 4
    header, request = decode_request(memoryview(frame)[4:])
    assert header == RequestHeader(ApiKey.METADATA, version, 42, client_id)
    assert request == MetadataRequest(topics=None)


def test_the_client_id_stays_plain_in_a_flexible_header() -> None:
    frame = joined(encode_request(42, "me", 9, MetadataRequest(topics=None)))
    assert frame[4:].hex(" ") == "00 03 00 09 00 00 00 2a 00 02 6d 65 00 00 01 00 00 00"


def test_tags_of_a_header_are_skipped() -> None:
    view = memoryview(header_bytes(3, 9) + b"\1\x07\x03abc" + b"\0\1\0\0\0")
    assert read_request_header(view, 0) == (RequestHeader(3, 9, 42, "me"), 18)
    assert decode_request(view)[1] == MetadataRequest(topics=None)


@pytest.mark.parametrize(
    ("key", "version"), [(3, 14), (3, -1), (0, 2), (22, 6), (18, 6), (4, 0), (999, 0), (-1, 0)]
)
def test_a_version_that_is_not_served_still_has_a_header(key: int, version: int) -> None:
    with pytest.raises(UnsupportedVersion) as error:
        decode_request(memoryview(header_bytes(key, version)))
    assert error.value.header == RequestHeader(key, version, 42, "me")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        header_bytes(3, 9)[:9],
        header_bytes(3, 9)[:-1],
        header_bytes(3, 9),
        header_bytes(3, 9, b"\xff") + b"\0",
        struct.pack(">hhih", 3, 1, 42, -2),
        header_bytes(3, 9) + b"\1\x07\x04abc",
    ],
)
def test_a_header_that_is_wrong(header: bytes) -> None:
    with pytest.raises(DecodeError, match="request header"):
        decode_request(memoryview(header))


def test_bytes_after_a_request_are_ignored() -> None:
    request = MetadataRequest(topics=None)
    frame = joined(encode_request(1, None, 13, request))
    assert decode_request(memoryview(frame + b"\0\0\0")[4:])[1] == request


def test_bytes_after_a_response_are_an_error() -> None:
    answer = joined(encode_response(3, 9, 1, MetadataResponse(brokers=[], topics=[])))
    with pytest.raises(DecodeError, match="1 bytes too many"):
        decode_response(3, 9, memoryview(answer + b"\0")[4:])


@pytest.mark.parametrize("version", range(14))
def test_a_response_comes_back_with_its_correlation_id(version: int) -> None:
    response = MetadataResponse(brokers=[], topics=[], cluster_id="c" if version >= 2 else None)
    frame = joined(encode_response(ApiKey.METADATA, version, -7, response))
    assert struct.unpack_from(">i", frame)[0] == len(frame) - 4
    assert decode_response(ApiKey.METADATA, version, memoryview(frame)[4:]) == (-7, response)


@pytest.mark.parametrize("version", range(6))
def test_the_header_of_an_api_versions_response_is_always_the_oldest(version: int) -> None:
    keys = [ApiVersion(api_key=0, min_version=0, max_version=13)]
    frame = joined(encode_response(18, version, 5, ApiVersionsResponse(api_keys=keys)))
    assert frame[8:10] == b"\0\0"
    assert frame[10:14] == (b"\0\0\0\1" if version < 3 else b"\2\0\0\0")
    assert decode_response(18, version, memoryview(frame)[4:])[1] == ApiVersionsResponse(
        api_keys=keys
    )


def test_an_api_versions_request_that_is_too_new_is_answered_in_version_0() -> None:
    refusal = ApiVersionsResponse(
        error_code=ErrorCode.UNSUPPORTED_VERSION,
        api_keys=[ApiVersion(api_key=18, min_version=0, max_version=5)],
    )
    frame = joined(encode_response(18, 0, 5, refusal))
    assert decode_response(18, 4, memoryview(frame)[4:]) == (5, refusal)


@pytest.mark.parametrize("frame", [b"", b"\0\0\0", b"\0\0\0\1", b"\0\0\0\1\1\1", b"\0\0\0\1\1"])
def test_a_response_that_is_too_short(frame: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_response(3, 9, memoryview(frame))


def test_records_of_a_request_are_a_view_of_the_frame() -> None:
    frame = bytearray(joined(encode_request(1, None, 9, produce(b"abc" * 1000))))
    request = cast(ProduceRequest, decode_request(memoryview(frame)[4:])[1])
    records = request.topic_data[0].partition_data[0].records
    assert isinstance(records, memoryview)
    assert records.obj is frame
    assert records == b"abc" * 1000


@pytest.mark.parametrize("version", [4, 11, 12, 16, 18])
def test_file_ranges_are_parts_of_their_own(version: int) -> None:
    big = bytes(range(256)) * 8
    ranges = [FileRange(FILE, 100, 5000), FileRange(FILE, 9000, 70_000)]
    response = fetched(ranges[0], [big, ranges[1], b"small"], None, b"", FileRange(FILE, 0, 0))
    if version >= 13:
        response.responses[0].topic = ""
    parts = encode_response(ApiKey.FETCH, version, 3, response)
    assert [part for part in parts if isinstance(part, FileRange)] == ranges
    assert any(part is big for part in parts)
    assert all(len(part) for part in parts)
    frame = b"".join(
        bytes(part.length) if isinstance(part, FileRange) else bytes(part) for part in parts
    )
    assert struct.unpack_from(">i", frame)[0] == len(frame) - 4
    read = cast(Any, decode_response(ApiKey.FETCH, version, memoryview(frame)[4:])[1])
    records = [each.records for each in read.responses[0].partitions]
    assert records == [bytes(5000), big + bytes(70_000) + b"small", None, b"", b""]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_records_in_memory_are_copied_only_when_small(kind: Any) -> None:
    large = kind(bytes(SMALL_RECORDS_BYTES + 1))
    parts = encode_response(ApiKey.FETCH, 12, 3, fetched(large))
    assert parts[1] is large
    assert len(parts) == 3
    assert len(encode_response(ApiKey.FETCH, 11, 3, fetched(large))) == 2
    small = kind(bytes(SMALL_RECORDS_BYTES))
    assert len(encode_response(ApiKey.FETCH, 12, 3, fetched(small))) == 1


def test_a_message_without_records_is_one_part() -> None:
    assert len(encode_response(3, 12, 1, MetadataResponse(brokers=[], topics=[]))) == 1


def test_a_request_of_no_api_and_a_response_that_does_not_fit() -> None:
    with pytest.raises(EncodeError, match="name"):
        encode_response(ApiKey.METADATA, 1, 1, MetadataResponse(brokers=[], topics=cast(Any, [1])))
    with pytest.raises(ValueError, match="no version 6"):
        encode_request(1, None, 6, ApiVersionsRequest())


def test_what_was_compiled_ahead_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_ahead([(ApiKey.PRODUCE, 9), (ApiKey.FETCH, 12)])
    monkeypatch.setattr("ottla.protocol.compiler.write_decoder", None)
    monkeypatch.setattr("ottla.protocol.compiler.write_encoder", None)
    frame = header_bytes(0, 9) + b"\0" + b"\0\xff\xff\0\0\0\1\1\0"
    assert decode_request(memoryview(frame))[1] == ProduceRequest(
        acks=-1, timeout_ms=1, topic_data=[]
    )
    assert encode_response(ApiKey.FETCH, 12, 1, fetched(None))
