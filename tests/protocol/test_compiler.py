"""Round trips, and the rules by which fields appear, differ and are refused."""

import linecache
import traceback
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.base.ids import Uuid
from ottla.protocol import types
from ottla.protocol.compiler import decode, decoder, encode, encoder
from ottla.protocol.decoder import least_bytes
from ottla.protocol.message import Struct, field
from ottla.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    LeaderIdAndEpoch,
    PartitionData,
    ReplicaState,
)
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from ottla.protocol.wire import DecodeError, EncodeError
from tests.protocol.values import VERSIONS, joined, label, message


class Inner(Struct):
    number: int = field(types.int16)
    texts: list[str] = field(default_factory=list)
    extra: bytes = field(versions="2+", default=b"", tag=0)


class Everything(Struct, versions="0-2", flexible="1+"):
    """Every kind and shape, some of which no message of today has."""

    flag: bool = field(default=False)
    small: int = field(types.int8, default=0)
    port: int = field(types.uint16, default=0)
    crc: int = field(types.uint32, default=0)
    ratio: float = field(types.float64, default=0.0)
    text: str | None = field(nullable="1+", default="")
    blob: bytes = field(default=b"")
    maybe_blob: bytes | None = field(nullable="0+", default=None)
    uuid: Uuid = field(default=Uuid(bytes(16)))
    uuids: list[Uuid] = field(default_factory=list)
    blobs: list[bytes] = field(default_factory=list)
    flags: list[bool] = field(default_factory=list)
    longs: list[int] | None = field(types.int64, nullable="0+", default=None)
    inner: Inner = field()
    maybe: Inner | None = field(nullable="0+", default=None)
    inners: list[Inner] = field(default_factory=list)
    tagged_text: str | None = field(versions="1+", nullable="1+", tag=3, default=None)
    tagged_longs: list[int] = field(types.int64, versions="1+", tag=1, default_factory=list)
    tagged_inners: list[Inner] | None = field(
        versions="1+", nullable="1+", tag=200, default_factory=list
    )


@settings(max_examples=60, deadline=None)
@given(draw=st.randoms(use_true_random=False), version=st.sampled_from([0, 1, 2]))
def test_any_kind_and_shape_comes_back(draw: Random, version: int) -> None:
    sent = message(Everything, version, draw)
    assert decode(Everything, version, memoryview(joined(encode(sent, version)))) == sent


@settings(max_examples=400, deadline=None)
@given(draw=st.randoms(use_true_random=False), what=st.sampled_from(VERSIONS))
def test_any_message_comes_back(draw: Random, what: tuple[type[Struct], int]) -> None:
    cls, version = what
    sent = message(cls, version, draw)
    assert decode(cls, version, memoryview(joined(encode(sent, version)))) == sent


@pytest.mark.parametrize(("cls", "version"), VERSIONS, ids=label)
def test_every_version_compiles_once_and_has_elements_of_at_least_a_byte(
    cls: type[Struct], version: int
) -> None:
    assert decoder(cls, version) is decoder(cls, version)
    assert encoder(cls, version) is encoder(cls, version)
    pending = [cls]
    while pending:
        for each in pending.pop().__fields__:
            if each.nested is not None and version in each.versions:
                assert least_bytes(each.nested, version, version in cls.__flexible__) > 0
                pending.append(each.nested)


def test_a_version_that_does_not_exist_has_no_codec() -> None:
    with pytest.raises(ValueError, match="ProduceRequest has no version 2"):
        decoder(ProduceRequest, 2)
    with pytest.raises(ValueError, match="ProduceRequest has no version 14"):
        encoder(ProduceRequest, 14)


def test_layout_of_a_flexible_request_byte_by_byte() -> None:
    request = MetadataRequest(
        topics=[MetadataRequestTopic(name="ab"), MetadataRequestTopic(topic_id=Uuid(b"u" * 16))],
        allow_auto_topic_creation=False,
    )
    assert joined(encode(request, 12)).hex(" ", 1) == " ".join(
        ["03", "00 " * 15 + "00", "03 61 62", "00", "75 " * 15 + "75", "00", "00", "00 00", "00"]
    )


def test_a_null_array_and_an_empty_one_differ() -> None:
    assert joined(encode(MetadataRequest(topics=None), 1)) == b"\xff\xff\xff\xff"
    assert joined(encode(MetadataRequest(topics=[]), 1)) == b"\0\0\0\0"
    assert joined(encode(MetadataRequest(topics=None), 9))[:1] == b"\0"
    assert decode(MetadataRequest, 9, memoryview(b"\1\1\0\0\0")).topics == []


def test_nullability_changes_with_the_version() -> None:
    with pytest.raises(EncodeError, match="topics"):
        encode(MetadataRequest(topics=None), 0)
    with pytest.raises(DecodeError, match="topics"):
        decode(MetadataRequest, 0, memoryview(b"\xff\xff\xff\xff"))
    nameless = MetadataRequest(topics=[MetadataRequestTopic(name=None)])
    with pytest.raises(EncodeError, match="name"):
        encode(nameless, 9)
    assert encode(nameless, 10)


def test_a_nullable_struct_is_led_by_minus_one_or_one() -> None:
    plain = Everything(inner=Inner(number=7))
    base = joined(encode(plain, 1))
    at = len(base) - 3
    assert base[at] == 0xFF
    for mark in range(256):
        changed = base[:at] + bytes([mark]) + base[at + 1 :]
        if mark == 0xFF:
            assert decode(Everything, 1, memoryview(changed)).maybe is None
        else:
            with pytest.raises(DecodeError, match="maybe"):
                decode(Everything, 1, memoryview(changed))
    full = Everything(inner=Inner(number=7), maybe=Inner(number=8))
    assert joined(encode(full, 1))[at : at + 3] == b"\1\0\x08"


def test_a_field_that_is_not_in_the_version_must_hold_its_default() -> None:
    partition = FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1)
    topics = [FetchTopic(topic="t", partitions=[partition])]
    request = FetchRequest(max_wait_ms=0, min_bytes=0, topics=topics)
    partition.last_fetched_epoch = 5
    with pytest.raises(EncodeError, match="last_fetched_epoch: not in this version"):
        encode(request, 11)
    assert encode(request, 12)
    partition.last_fetched_epoch = -1
    request.replica_state = ReplicaState(replica_id=1)
    with pytest.raises(EncodeError, match="replica_state"):
        encode(request, 14)
    request.replica_state, request.replica_id = None, 3
    with pytest.raises(EncodeError, match="replica_id"):
        encode(request, 15)


def test_an_ignorable_field_is_left_out_silently() -> None:
    answer = PartitionProduceResponse(index=0, base_offset=1, error_message="no", error_code=2)
    response = ProduceResponse(
        responses=[TopicProduceResponse(name="t", partition_responses=[answer])]
    )
    read = decode(ProduceResponse, 7, memoryview(joined(encode(response, 7))))
    assert read.responses[0].partition_responses[0].error_message is None


def fetched(**tagged: object) -> FetchResponse:
    partition = PartitionData(partition_index=0, high_watermark=0, **tagged)  # type: ignore[arg-type]
    return FetchResponse(responses=[FetchableTopicResponse(topic="t", partitions=[partition])])


def test_a_tagged_field_is_written_only_when_it_differs_from_its_default() -> None:
    bare = joined(encode(fetched(), 12))
    assert joined(encode(fetched(current_leader=LeaderIdAndEpoch()), 12)) == bare
    led = joined(encode(fetched(current_leader=LeaderIdAndEpoch(leader_id=0)), 12))
    assert led.endswith(b"\1\1\x09" + bytes(4) + b"\xff" * 4 + b"\0" * 3)


def test_unknown_tags_are_skipped_and_known_ones_found_among_them() -> None:
    led = joined(encode(fetched(current_leader=LeaderIdAndEpoch(leader_id=0)), 12))
    tag = b"\1\x09" + bytes(4) + b"\xff" * 4 + b"\0"
    head = led[: -len(tag) - 3]
    tags = b"\3" + tag + b"\x64\x02zz" + b"\xc8\x01\0"
    read = decode(FetchResponse, 12, memoryview(head + tags + b"\0\0"))
    assert read.responses[0].partitions[0].current_leader == LeaderIdAndEpoch(leader_id=0)


@pytest.mark.parametrize(
    ("tags", "cause"),
    [
        (b"\2\x64\0\x64\0", "tag 100 after tag 100"),
        (b"\2\x64\0\x63\0", "tag 99 after tag 100"),
        (b"\1\1\x08" + bytes(8) + b"\0", "size of the tag is wrong"),
        (b"\1\1\x0a" + bytes(8) + b"\0\0", "size of the tag is wrong"),
        (b"\1\x64\x05abc", "5 bytes of tag 100"),
        (b"\x80\x80\x80\x80\x80\x01", "varint"),
        (b"\xff\xff\xff\xff\x1f", "varint"),
        (b"\xff\xff\xff\xff\x0f", "the bytes end here"),
    ],
)
def test_tagged_fields_that_are_wrong(tags: bytes, cause: str) -> None:
    head = joined(encode(fetched(), 12))[:-3]
    with pytest.raises(DecodeError, match=cause):
        decode(FetchResponse, 12, memoryview(head + tags))


def test_text_must_be_utf8_and_not_longer_than_kafkas() -> None:
    with pytest.raises(DecodeError, match=r"topics\.\[\]\.name at byte 6"):
        decode(MetadataRequest, 0, memoryview(b"\0\0\0\1\0\1\xff"))
    name = b"a" * 32_768
    with pytest.raises(DecodeError, match="too long"):
        decode(MetadataRequest, 9, memoryview(b"\2\x81\x80\x02" + name + bytes(4)))
    with pytest.raises(EncodeError, match="too long"):
        encode(MetadataRequest(topics=[MetadataRequestTopic(name=name.decode())]), 9)


def test_an_error_names_the_field_at_which_the_bytes_end() -> None:
    whole = joined(encode(FetchRequest(max_wait_ms=0, min_bytes=0, topics=[]), 4))
    with pytest.raises(DecodeError, match="min_bytes at byte 8 of 10: the bytes end here"):
        decode(FetchRequest, 4, memoryview(whole[:10]))


def test_an_error_names_the_field_that_is_longer_than_what_is_left() -> None:
    with pytest.raises(DecodeError, match=r"name at byte 6 of 8: longer than what is left"):
        decode(MetadataRequest, 0, memoryview(b"\0\0\0\1\0\5ab"))


def test_an_integer_that_does_not_fit_is_an_error_of_the_sender() -> None:
    with pytest.raises(EncodeError, match=r"max_wait_ms, min_bytes.*format"):
        encode(FetchRequest(max_wait_ms=1 << 31, min_bytes=0, topics=[]), 4)
    with pytest.raises(EncodeError, match="not 16 bytes"):
        encode(Everything(inner=Inner(number=0), uuid=Uuid(b"short")), 0)


def test_tracebacks_show_the_source_of_a_codec() -> None:
    codec = decoder(MetadataRequest, 9)
    assert "def decode(view, at):" in "".join(linecache.getlines(codec.file))
    with pytest.raises(IndexError) as error:
        codec.function(memoryview(b""), 0)
    assert "view[at]" in traceback.format_tb(error.value.__traceback__)[-1]
