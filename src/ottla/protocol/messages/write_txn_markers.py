"""WriteTxnMarkers (key 27): end transactions in these partitions.

Sent by coordinators, and by administrators who abort what an old client left.
Versions. 1 is the first and flexible, 2 says by which protocol the transaction was made (KIP-1228).
"""

from ottla.protocol.api_key import ApiKey
from ottla.protocol.message import Request, Response, Struct, field
from ottla.protocol.types import int8, int16, int32, int64


class WritableTxnMarkerTopic(Struct):
    name: str = field()
    partition_indexes: list[int] = field(int32)


class WritableTxnMarker(Struct):
    producer_id: int = field(int64)
    producer_epoch: int = field(int16)
    transaction_result: bool = field()
    topics: list[WritableTxnMarkerTopic] = field()
    coordinator_epoch: int = field(int32)
    transaction_version: int = field(int8, versions="2+", default=0, ignorable=True)


class WriteTxnMarkersRequest(Request, api=ApiKey.WRITE_TXN_MARKERS, versions="1-2", flexible="1+"):
    markers: list[WritableTxnMarker] = field()


class WritableTxnMarkerPartitionResult(Struct):
    partition_index: int = field(int32)
    error_code: int = field(int16, default=0)


class WritableTxnMarkerTopicResult(Struct):
    name: str = field()
    partitions: list[WritableTxnMarkerPartitionResult] = field()


class WritableTxnMarkerResult(Struct):
    producer_id: int = field(int64)
    topics: list[WritableTxnMarkerTopicResult] = field()


class WriteTxnMarkersResponse(
    Response, api=ApiKey.WRITE_TXN_MARKERS, versions="1-2", flexible="1+"
):
    markers: list[WritableTxnMarkerResult] = field()
