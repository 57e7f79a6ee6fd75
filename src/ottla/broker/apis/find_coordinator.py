"""FindCoordinator (key 10): which node coordinates a group or a transactional id.

Behaviour. No coordinator runs yet: every key is answered COORDINATOR_NOT_AVAILABLE, which
clients take as a reason to ask again.
Versions. 0 names one group, 1 adds the kind of key, 3 is flexible, 4 asks for many keys at once.
"""

from ottla.base.errors import ErrorCode
from ottla.broker.context import RequestContext
from ottla.protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

_MESSAGE = "this broker does not coordinate groups or transactions yet"


def find_coordinator(
    context: RequestContext, request: FindCoordinatorRequest
) -> FindCoordinatorResponse:
    code = ErrorCode.COORDINATOR_NOT_AVAILABLE
    if context.api_version < 4:
        return FindCoordinatorResponse(
            error_code=code, error_message=_MESSAGE, node_id=-1, host="", port=-1
        )
    return FindCoordinatorResponse(
        coordinators=[
            Coordinator(
                key=key, node_id=-1, host="", port=-1, error_code=code, error_message=_MESSAGE
            )
            for key in request.coordinator_keys
        ]
    )
