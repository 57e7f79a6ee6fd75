"""ApiVersions: the table, who is refused it, and versions that nobody knows."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.broker.apis.api_versions import api_versions
from ottla.broker.context import RequestContext
from ottla.broker.registry import ENDPOINTS
from ottla.protocol.api_key import ApiKey
from ottla.protocol.framing import decode_response, encode_response
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.registry import APIS


def asked(name="test", version="1.0", **options):
    return ApiVersionsRequest(client_software_name=name, client_software_version=version, **options)


def table(answer):
    return {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}


@pytest.mark.parametrize("version", range(6))
def test_the_table_of_every_version(on_node, version):
    async def test(node):
        answer = await node.ask(asked(), version)
        assert answer.error_code == 0
        rows = table(answer)
        assert list(rows) == sorted(ENDPOINTS)
        assert rows.pop(ApiKey.PRODUCE) == (0, 13)
        assert rows == {key: APIS[key][:2] for key in ENDPOINTS if key != ApiKey.PRODUCE}
        supported = {f.name: (f.min_version, f.max_version) for f in answer.supported_features}
        levels = {f.name: f.max_version_level for f in answer.finalized_features}
        off = {"transaction.version": (0, 2), "group.version": (0, 1)} if version > 3 else {}
        assert supported == ({"metadata.version": (7, 33), **off} if version > 2 else {})
        all_levels = {"metadata.version": 33, "transaction.version": 2, "group.version": 1}
        assert levels == (all_levels if version > 2 else {})
        assert answer.finalized_features_epoch == (node.image.revision if version > 2 else -1)
        assert not answer.zk_migration_ready

    on_node(test)


@pytest.mark.parametrize("version", [6, 7, 32767, -1])
def test_a_version_that_is_not_known_is_answered_as_version_0(on_node, version):
    async def test(node):
        response = api_versions(RequestContext(node.services, 0, None, None), None)
        parts = encode_response(ApiKey.API_VERSIONS, 0, 7, response)
        data = memoryview(b"".join(bytes(part) for part in parts))[4:]
        _, answer = decode_response(ApiKey.API_VERSIONS, version, data)
        assert answer.error_code == ErrorCode.UNSUPPORTED_VERSION
        assert table(answer)[ApiKey.API_VERSIONS] == (0, 5)
        assert list(table(answer)) == sorted(ENDPOINTS)

    on_node(test)


@pytest.mark.parametrize(
    ("name", "software", "code"),
    [
        ("apache-kafka-java", "4.3.0", 0),
        ("a", "1", 0),
        ("a.b-c", "1.0-rc.1", 0),
        ("", "1", ErrorCode.INVALID_REQUEST),
        ("a", "", ErrorCode.INVALID_REQUEST),
        ("-a", "1", ErrorCode.INVALID_REQUEST),
        ("a.", "1", ErrorCode.INVALID_REQUEST),
        ("a b", "1", ErrorCode.INVALID_REQUEST),
        ("a\n", "1", ErrorCode.INVALID_REQUEST),
        ("é", "1", ErrorCode.INVALID_REQUEST),
    ],
)
def test_the_name_of_the_clients_software(on_node, name, software, code):
    async def test(node):
        for version in (3, 4, 5):
            answer = await node.ask(asked(name, software), version)
            assert answer.error_code == code
        assert (await node.ask(asked(name, software), 2)).error_code == 0

    on_node(test)


def test_a_client_that_expects_somebody_else_begins_anew(on_node):
    """KIP-1242"""

    async def test(node):
        own, other = node.image.cluster_id, "AAAAAAAAAAAAAAAAAAAAAA"
        for cluster, number, code in (
            (own, 1, 0),
            (None, -1, 0),
            (None, 7, 0),
            (own, 7, ErrorCode.REBOOTSTRAP_REQUIRED),
            (own, -1, ErrorCode.REBOOTSTRAP_REQUIRED),
            (other, 1, ErrorCode.REBOOTSTRAP_REQUIRED),
        ):
            answer = await node.ask(asked(cluster_id=cluster, node_id=number))
            assert answer.error_code == code, (cluster, number)
            assert (await node.ask(asked(cluster_id=cluster, node_id=number), 4)).error_code == 0

    on_node(test)
