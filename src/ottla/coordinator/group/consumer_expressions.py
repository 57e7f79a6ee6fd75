"""Members that subscribe by regular expressions: what these match, and when that is looked at.

An expression is matched behind the request that brings it, over all topics, a piece in each turn
of the loop; what it matched is written to the log, and the group goes to its next epoch if that
is something else than before. A group's expressions are matched anew when topics came or went,
or after `REFRESH_MS`; at most once in `PAUSE_MS`, and only while its members are heard of. They
match no topic that the member whose request it was that time may not know of, as in Kafka.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from ottla.coordinator.group import consumer_records as records
from ottla.coordinator.group.consumer_group import ConsumerGroup, metadata_hash
from ottla.coordinator.group.consumer_records import ConsumerRecord
from ottla.coordinator.group.consumer_step import Step
from ottla.coordinator.group.expressions import Scan, compiled
from ottla.coordinator.group.groups import Groups
from ottla.coordinator.machine import Host, Outcome
from ottla.metadata.image import ClusterImage

PAUSE_MS: Final = 10_000
REFRESH_MS: Final = 600_000


class Expressions:
    def __init__(self, groups: Groups, host: Host, image: Callable[[], ClusterImage]) -> None:
        self._groups = groups
        self._host = host
        self._image = image
        self._running: dict[str, None] = {}
        """Groups whose expressions are on their way over the topics."""

    def changed(self, step: Step) -> bool:
        """The member has another expression: whether it is known already what it reads by it.
        KafkaError INVALID_REGULAR_EXPRESSION."""
        group, old, new = step.group, step.former.regex, step.member.regex
        if old and group.expression_users.get(old, 0) == 1 and old in group.expressions:
            step.records.append(records.expression_gone(group.id, old))
        if not new:
            return True
        compiled(new)
        return new in group.expressions

    def maybe_refresh(self, step: Step) -> None:
        """Have the group's expressions matched, if it is time."""
        group, regex = step.group, step.member.regex
        if not (regex or group.expression_users) or group.id in self._running:
            return
        times = [each.time_ms for each in group.expressions.values()]
        age_ms = step.now_ms - max(times) if times else None
        if age_ms is not None and 0 <= age_ms < PAUSE_MS:
            return
        used = {**group.expression_users, **({regex: 1} if regex else {})}
        is_due = age_ms is None or age_ms < 0 or age_ms > REFRESH_MS
        is_due = is_due or any(each not in group.expressions for each in used)
        if is_due or group.scanned_topics is not self._image().topics:
            group_id, may_see = group.id, step.may_see
            step.effects.append(lambda: self._start(group_id, may_see))

    def _start(self, group_id: str, may_see: Callable[[str], bool]) -> None:
        self._running[group_id] = None
        self._host.schedule(("expressions", group_id), 0, partial(self._begin, group_id, may_see))

    def _begin(
        self, group_id: str, may_see: Callable[[str], bool], _: object, now_ms: int
    ) -> Outcome:
        group, image = self._groups.find_consumer(group_id), self._image()
        if group is None:
            del self._running[group_id]
            return Outcome()
        group.scanned_topics = image.topics
        scan = Scan(group.expression_users, list(image.topics), image.revision, may_see)
        return self._piece(group_id, scan, None, now_ms)

    def _piece(self, group_id: str, scan: Scan, _: object, now_ms: int) -> Outcome:
        if not scan.piece():
            later = partial(self._piece, group_id, scan)
            self._host.schedule(("expressions", group_id), 0, later)
            return Outcome()
        del self._running[group_id]
        group = self._groups.find_consumer(group_id)
        return Outcome() if group is None else Outcome(self._matched(group, scan, now_ms))

    def _matched(self, group: ConsumerGroup, scan: Scan, now_ms: int) -> list[ConsumerRecord]:
        made = []
        is_other = False
        names = {name for member in group.members.values() for name in member.topics}
        for regex in group.expression_users:
            old = group.expressions.get(regex)
            found = scan.found.get(regex)
            if found is None:  # it came while the others were matched
                names |= old.topics if old is not None else set()
                continue
            names |= found
            is_other |= old is None or old.topics != found
            made.append(records.expression_record(group.id, regex, found, scan.version, now_ms))
        if is_other:
            made += next_epoch(group, metadata_hash(names, self._image()))
        return made


def next_epoch(group: ConsumerGroup, found: int) -> list[ConsumerRecord]:
    """The records of the group's next epoch, with the hash of its topics."""
    made = [records.group_epoch(group.id, group.epoch + 1, found)]
    if group.has_partition_metadata:
        made.append(records.partition_metadata_gone(group.id))
    return made
