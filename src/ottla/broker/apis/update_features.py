"""UpdateFeatures (key 57): raise or lower the finalised levels of the cluster's features.

Behaviour. All updates of a request take effect, or none. A feature or a level that is not known, or
a change of the other kind than was asked for, is INVALID_UPDATE_VERSION. Level 0 turns a feature
off, where it may be off.
Authorised by: Alter on the cluster.
Versions. 1 has kinds of change (2 and 3 lower) and can only try; 2 answers no single features.
"""

from ottla.base.errors import ErrorCode, KafkaError
from ottla.broker.context import RequestContext
from ottla.metadata.features import FeatureUpdate
from ottla.protocol.messages.update_features import (
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)
from ottla.security.acl import Operation, ResourceType

UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE = 1, 2, 3


async def update_features(
    context: RequestContext, request: UpdateFeaturesRequest
) -> UpdateFeaturesResponse:
    updates = [
        FeatureUpdate(
            each.feature,
            each.max_version_level,
            each.allow_downgrade or each.upgrade_type in (SAFE_DOWNGRADE, UNSAFE_DOWNGRADE),
        )
        for each in request.feature_updates
    ]
    try:
        context.require(Operation.ALTER, ResourceType.CLUSTER)
        for each in request.feature_updates:
            if not UPGRADE <= each.upgrade_type <= UNSAFE_DOWNGRADE:
                raise KafkaError(
                    ErrorCode.INVALID_UPDATE_VERSION, f"There is no kind {each.upgrade_type}."
                )
        await context.services.controller.update_features(
            updates, validate_only=request.validate_only
        )
    except KafkaError as error:
        return UpdateFeaturesResponse(error_code=error.code, error_message=error.message)
    results = [UpdatableFeatureResult(feature=update.name) for update in updates]
    return UpdateFeaturesResponse(results=results)
