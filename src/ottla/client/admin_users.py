"""Users that log in by SCRAM (KIP-554), and quotas of users, client ids and addresses (KIP-546)."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from ottla.base.errors import KafkaError
from ottla.client.asking import Asking, raise_named, refusal, settled
from ottla.client.errors import ClientError
from ottla.client.rows import Match, NewScramCredential, QuotaRow, ScramDeletion
from ottla.protocol.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    AskedEntries,
    EntityData,
    OpData,
)
from ottla.protocol.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse,
    ScramCredentialDeletion,
    ScramCredentialUpsertion,
)
from ottla.protocol.messages.describe_client_quotas import (
    ComponentData,
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
)
from ottla.protocol.messages.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
    UserName,
)
from ottla.rpc.errors import RpcError
from ottla.security.sasl import ITERATIONS_MIN, SCRAM_HASHES

MECHANISM_NUMBERS: Final = {"SCRAM-SHA-256": 1, "SCRAM-SHA-512": 2}
ITERATIONS_MAX: Final = 16_384
"""Kafka takes no more."""
SALT_BYTES: Final = 24
EXACT, DEFAULT, ANY = 0, 1, 2

Change = NewScramCredential | ScramDeletion
Credentials = dict[str, int]
"""Iterations by mechanism."""
Login = tuple[str, str]
"""A user and a mechanism."""


class UserAdmin(Asking):
    async def describe_user_scram_credentials(self, *users: str) -> dict[str, Credentials]:
        """Iterations by mechanism, by user (of all, where none is named)."""
        what, expected = "describe_user_scram_credentials", DescribeUserScramCredentialsResponse

        def request(names: Sequence[str]) -> DescribeUserScramCredentialsRequest:
            rows = [UserName(name=name) for name in names]
            return DescribeUserScramCredentialsRequest(users=rows or None)

        async def ask(node: int, names: Sequence[str]) -> dict[str, Credentials | KafkaError]:
            return _credentials(await self._send(node, request(names), expected))

        if users:
            return await self._each(what, users, self._anyone(), ask)
        return settled(_credentials(await self._one(self._anyone(), request(()), expected)))

    async def alter_user_scram_credentials(self, *changes: Change) -> None:
        """Make, replace or delete what users log in with; of a mechanism the last change counts."""
        for change in changes:
            _check_change(change)
        wanted = {(change.user, change.mechanism): change for change in changes}

        async def ask(
            node: int, items: Sequence[Login]
        ) -> dict[Login, KafkaError | RpcError | None]:
            found: dict[Login, KafkaError | RpcError | None] = {}
            left = list(items)
            while left:  # Kafka takes one change of a user in a request
                part = {login[0]: login for login in reversed(left)}
                request = self._scram_request([wanted[login] for login in part.values()])
                try:
                    response = await self._send(node, request, AlterUserScramCredentialsResponse)
                except (KafkaError, RpcError) as failure:
                    return found | dict.fromkeys(left, failure)
                for row in response.results:
                    if row.user in part:
                        error = refusal(row.error_code, row.error_message, row.user)
                        found[part[row.user]] = error
                left = [login for login in left if login not in part.values()]
            return found

        await self._each("alter_user_scram_credentials", wanted, self._controller(), ask)

    def _scram_request(self, changes: Sequence[Change]) -> AlterUserScramCredentialsRequest:
        return AlterUserScramCredentialsRequest(
            deletions=[
                ScramCredentialDeletion(name=each.user, mechanism=MECHANISM_NUMBERS[each.mechanism])
                for each in changes
                if isinstance(each, ScramDeletion)
            ],
            upsertions=[
                self._upsertion(each) for each in changes if isinstance(each, NewScramCredential)
            ],
        )

    def _upsertion(self, change: NewScramCredential) -> ScramCredentialUpsertion:
        salt = self._cluster.world.rng.randbytes(SALT_BYTES)
        salted = hashlib.pbkdf2_hmac(
            SCRAM_HASHES[change.mechanism], change.password.encode(), salt, change.iterations
        )
        return ScramCredentialUpsertion(
            name=change.user,
            mechanism=MECHANISM_NUMBERS[change.mechanism],
            iterations=change.iterations,
            salt=salt,
            salted_password=salted,
        )

    # ---- quotas

    async def describe_client_quotas(
        self, match: Mapping[str, str | Match | None] | None = None, *, strict: bool = False
    ) -> list[QuotaRow]:
        """The quotas of entities that match: by type ("user", "client-id", "ip") a name, None for
        the default, or `Match.ANY`. `strict` leaves out entities of further types."""
        components = [
            ComponentData(
                entity_type=kind,
                match_type=ANY if name is Match.ANY else DEFAULT if name is None else EXACT,
                match=name if isinstance(name, str) else None,
            )
            for kind, name in (match or {}).items()
        ]
        request = DescribeClientQuotasRequest(components=components, strict=strict)
        response = await self._one(self._anyone(), request, DescribeClientQuotasResponse)
        return [
            QuotaRow(
                {each.entity_type: each.entity_name for each in row.entity},
                {each.key: each.value for each in row.values},
            )
            for row in response.entries or ()
        ]

    async def alter_client_quotas(
        self,
        entity: Mapping[str, str | None],
        changes: Mapping[str, float | None],
        *,
        validate_only: bool = False,
    ) -> None:
        """Set quotas of one entity ({"user": "alice"}; None is the default of a type), or (None)
        take them back: `producer_byte_rate`, `consumer_byte_rate`, `request_percentage` ..."""
        entry = AskedEntries.EntryData(
            entity=[
                EntityData(entity_type=kind, entity_name=name) for kind, name in entity.items()
            ],
            ops=[
                OpData(key=key, value=value or 0.0, remove=value is None)
                for key, value in changes.items()
            ],
        )

        def check(answer: AlterClientQuotasResponse) -> None:
            for row in answer.entries:
                raise_named(row.error_code, row.error_message, dict(entity))

        request = AlterClientQuotasRequest(entries=[entry], validate_only=validate_only)
        await self._one(self._anyone(), request, AlterClientQuotasResponse, check)


def _check_change(change: Change) -> None:
    if change.mechanism not in MECHANISM_NUMBERS:
        known = ", ".join(MECHANISM_NUMBERS)
        raise ClientError(f"{change.user}: {change.mechanism!r} is not one of {known}")
    if isinstance(change, NewScramCredential) and not (
        ITERATIONS_MIN <= change.iterations <= ITERATIONS_MAX
    ):
        raise ClientError(
            f"{change.user}: {change.iterations} iterations, and allowed are {ITERATIONS_MIN} to"
            f" {ITERATIONS_MAX}"
        )


def _credentials(
    response: DescribeUserScramCredentialsResponse,
) -> dict[str, Credentials | KafkaError]:
    names = {number: name for name, number in MECHANISM_NUMBERS.items()}
    return {
        row.user: refusal(row.error_code, row.error_message, row.user)
        or {
            names.get(each.mechanism, str(each.mechanism)): each.iterations
            for each in row.credential_infos
        }
        for row in response.results
    }
