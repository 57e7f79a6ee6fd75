"""What a client of a coordinator is told, where the log under it refused.

Clients of coordinators know the coordinator's errors, not those of a log: NOT_COORDINATOR makes
them look for it again, COORDINATOR_NOT_AVAILABLE makes them wait and ask the same one.
"""

from collections.abc import Mapping
from typing import Final

from ottla.base.errors import ErrorCode

_TOLD: Final[Mapping[ErrorCode, ErrorCode]] = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.REQUEST_TIMED_OUT: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.RECORD_LIST_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
    ErrorCode.INVALID_FETCH_SIZE: ErrorCode.UNKNOWN_SERVER_ERROR,
}


def coordinator_error(code: ErrorCode) -> ErrorCode:
    return _TOLD.get(code, code)


def offset_fetch_error(code: ErrorCode) -> ErrorCode:
    """The same for OffsetFetch: consumers before 3.9 take COORDINATOR_NOT_AVAILABLE there for a
    failure, and NOT_COORDINATOR for a reason to ask again."""
    told = coordinator_error(code)
    is_a_wait = told is ErrorCode.COORDINATOR_NOT_AVAILABLE and told is not code
    return ErrorCode.NOT_COORDINATOR if is_a_wait else told
