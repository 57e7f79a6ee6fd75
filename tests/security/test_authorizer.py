"""Decisions: denial first, patterns, super users, and what is remembered of them."""

import logging
import random

import pytest

from ottla.base import limits
from ottla.security import authorizer as module
from ottla.security.acl import Acl, Operation, PatternType, Permission, ResourceType
from ottla.security.authorizer import Authorizer, Requester

ALICE = Requester("User:alice", "10.0.0.1")
BOB = Requester("User:bob", "10.0.0.1")
TOPIC = ResourceType.TOPIC


def acl(
    name: str,
    permission: Permission = Permission.ALLOW,
    *,
    pattern: PatternType = PatternType.LITERAL,
    principal: str = "User:alice",
    host: str = "*",
    operation: Operation = Operation.READ,
    kind: ResourceType = TOPIC,
) -> Acl:
    return Acl(kind, pattern, name, principal, host, operation, permission)


def given(
    *acls: Acl, allow_if_no_acl: bool = False, super_users: tuple[str, ...] = ()
) -> Authorizer:
    made = Authorizer(super_users=super_users, allow_if_no_acl=allow_if_no_acl)
    made.take(acls)
    return made


def reads(authorizer: Authorizer, name: str, who: Requester = ALICE) -> bool:
    return authorizer.allows(who, Operation.READ, TOPIC, name)


def test_nothing_is_allowed_that_no_entry_allows() -> None:
    assert not reads(given(), "t")
    assert reads(given(acl("t")), "t")
    assert not reads(given(acl("t")), "t", BOB)
    assert not reads(given(acl("t")), "t2")
    assert not reads(given(acl("t", kind=ResourceType.GROUP)), "t")


def test_patterns() -> None:
    prefixed = given(acl("app-", pattern=PatternType.PREFIXED))
    assert reads(prefixed, "app-") and reads(prefixed, "app-1")
    assert not reads(prefixed, "app") and not reads(prefixed, "xapp-1")
    assert reads(given(acl("*")), "anything")
    assert not reads(given(acl("*", pattern=PatternType.PREFIXED)), "anything")


@pytest.mark.parametrize("denial", [acl("app-1", Permission.DENY), acl("*", Permission.DENY)])
def test_a_denial_wins(denial: Acl) -> None:
    allowed = acl("app-", pattern=PatternType.PREFIXED), acl("app-1")
    assert reads(given(*allowed), "app-1")
    for order in ((denial, *allowed), (*allowed, denial)):
        assert not reads(given(*order), "app-1")


def test_a_denial_by_prefix_wins() -> None:
    denial = acl("app-", Permission.DENY, pattern=PatternType.PREFIXED)
    assert not reads(given(acl("app-1"), denial), "app-1")
    assert reads(given(acl("app-1"), denial._replace(principal="User:bob")), "app-1")


def test_super_users_are_denied_nothing() -> None:
    assert reads(given(acl("t", Permission.DENY), super_users=("User:alice",)), "t")


def test_what_no_entry_speaks_of() -> None:
    open_to_all = given(acl("t", principal="User:bob"), allow_if_no_acl=True)
    assert reads(open_to_all, "other")
    assert not reads(open_to_all, "t")
    assert reads(open_to_all, "t", BOB)


def test_new_entries_count_at_once() -> None:
    authorizer = given(acl("t"))
    assert reads(authorizer, "t")
    authorizer.take([])
    assert not reads(authorizer, "t")
    authorizer.take([acl("t")])
    assert reads(authorizer, "t")


def test_decisions_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AUTHORIZER_DECISIONS_COUNT", 10)
    authorizer = given(acl("*"))
    for number in range(100):
        assert reads(authorizer, f"t{number}")
        assert len(authorizer._decided) <= 10
    assert limits.AUTHORIZER_DECISIONS_COUNT > 10


def test_long_names_are_not_remembered() -> None:
    authorizer = given(acl("*"))
    assert reads(authorizer, "t" * 249)
    assert reads(authorizer, "t" * 32_000)
    assert [len(name) for _, _, _, name in authorizer._decided] == [249]


def test_a_denial_is_logged_once_but_not_that_of_a_quiet_question(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    authorizer = given()
    assert not authorizer.allows(ALICE, Operation.READ, TOPIC, "secret", quiet=True)
    assert not caplog.messages
    for _ in range(3):
        assert not reads(authorizer, "secret")
    assert caplog.messages == ["User:alice from 10.0.0.1 is denied READ on TOPIC 'secret'"]


P = PatternType.PREFIXED


@pytest.mark.parametrize(
    ("acls", "allowed"),
    [
        ([], False),
        ([acl("t")], True),
        ([acl("t", operation=Operation.ALL)], True),
        ([acl("t", operation=Operation.ALTER)], False),
        ([acl("t", principal="User:bob")], False),
        ([acl("t", kind=ResourceType.GROUP)], False),
        ([acl("t"), acl("*", Permission.DENY)], False),
        ([acl("t"), acl("t", Permission.DENY)], False),
        ([acl("t"), acl("u", Permission.DENY)], True),
        ([acl("ta"), acl("t", Permission.DENY, pattern=P)], False),
        ([acl("ta", pattern=P), acl("t", Permission.DENY, pattern=P)], False),
        ([acl("t", pattern=P), acl("ta", Permission.DENY, pattern=P)], True),
        ([acl("t", pattern=P), acl("t", Permission.DENY)], True),
        ([acl("*"), acl("t", Permission.DENY)], True),
        ([acl("t", host="10.0.0.2")], False),
    ],
)
def test_whether_anything_of_a_kind_is_allowed(acls: list[Acl], allowed: bool) -> None:
    assert given(*acls).allows_some(ALICE, Operation.READ, TOPIC) is allowed


def test_whether_anything_is_allowed_to_super_users_and_where_nobody_said_anything() -> None:
    denial = acl("*", Permission.DENY)
    assert given(denial, super_users=("User:alice",)).allows_some(ALICE, Operation.READ, TOPIC)
    assert given(allow_if_no_acl=True).allows_some(ALICE, Operation.READ, TOPIC)
    assert not given(denial, allow_if_no_acl=True).allows_some(ALICE, Operation.READ, TOPIC)


def test_the_index_finds_what_looking_at_every_entry_finds() -> None:
    rng = random.Random(7)
    names = ["a", "ab", "abc", "b", "*", "ba"]
    for _ in range(300):
        acls = [
            acl(
                rng.choice(names),
                rng.choice([Permission.ALLOW, Permission.DENY]),
                pattern=rng.choice([PatternType.LITERAL, P]),
                principal=rng.choice(["User:alice", "User:bob", "User:*"]),
                operation=rng.choice([Operation.READ, Operation.WRITE, Operation.ALL]),
            )
            for _ in range(rng.randrange(6))
        ]
        is_open = rng.random() < 0.5
        authorizer = given(*acls, allow_if_no_acl=is_open)
        for name in ["a", "ab", "abcd", "bax", "z"]:
            assert reads(authorizer, name) is plainly(acls, name, is_open)


def plainly(acls: list[Acl], name: str, is_open: bool) -> bool:
    about = [
        each
        for each in acls
        if (name.startswith(each.name) if each.pattern_type is P else each.name in (name, "*"))
    ]
    mine = [each for each in about if each.speaks_of(*ALICE, Operation.READ)]
    if any(each.permission is Permission.DENY for each in mine):
        return False
    return bool(mine) or (is_open and not about)
