"""The features of the cluster: which levels this code knows, and which one is agreed on.

A level that is finalised is one that all nodes speak and that the cluster's data may need. The
store keeps those that somebody set; of the others the default counts, which is the highest level
of a new cluster here. Level 0 means that a feature is off.

    metadata.version       7 to 33, Kafka's numbers of 3.3 and 4.4; there are no records of metadata
                           here that depend on it, and clients read of it which Kafka this is like
    transaction.version    1: records with tagged fields; 2: every end of a transaction bumps the
                           epoch, and partitions are added as they are written to (KIP-890)
    group.version          1: consumer groups (KIP-848)
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from ottla.base.errors import ErrorCode, KafkaError

METADATA: Final = "metadata.version"
TRANSACTION: Final = "transaction.version"
GROUP: Final = "group.version"


class Feature(NamedTuple):
    lowest: int
    highest: int
    default: int


FEATURES: Final[Mapping[str, Feature]] = {
    METADATA: Feature(7, 33, 33),
    TRANSACTION: Feature(0, 2, 2),
    GROUP: Feature(0, 1, 1),
}


def level_of(name: str, finalised: Mapping[str, int]) -> int:
    return finalised.get(name, FEATURES[name].default)


class FeatureUpdate(NamedTuple):
    name: str
    level: int
    may_lower: bool


def updated(finalised: Mapping[str, int], update: FeatureUpdate) -> dict[str, int]:
    """The levels after an update; KafkaError INVALID_UPDATE_VERSION where it cannot be."""
    name, level, may_lower = update
    feature = FEATURES.get(name)
    if feature is None:
        raise _refused(f"There is no feature {name[:200]!r} here.")
    if not feature.lowest <= level <= feature.highest:
        levels = f"{feature.lowest} to {feature.highest}"
        raise _refused(f"Feature {name} has the levels {levels}, and not {level}.")
    now = level_of(name, finalised)
    if level < now and not may_lower:
        raise _refused(f"Feature {name} is at {now}, and the update is none that may lower it.")
    if level > now and may_lower:
        raise _refused(f"Feature {name} is at {now}, and the update is one that lowers it.")
    return {**finalised, name: level}


def _refused(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_UPDATE_VERSION, message)
