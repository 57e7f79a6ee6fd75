"""Access control lists seen from outside: librdkafka makes them, and is held to them.

Everybody is User:ANONYMOUS here, and may do what no entry speaks of.
"""

from collections.abc import Iterator

import confluent_kafka as rd
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

import ottla
from tests.clients.peers import MARKS

pytestmark = MARKS
WAIT_S = 30
ON = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "1",
}
DENIED = rd.KafkaError.TOPIC_AUTHORIZATION_FAILED


@pytest.fixture(scope="module")
def broker() -> Iterator[ottla.Broker]:
    with ottla.Broker(settings=ON) as broker:
        yield broker


@pytest.fixture(scope="module")
def admin(broker: ottla.Broker) -> AdminClient:
    return AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})


def make(admin: AdminClient, name: str) -> None:
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(WAIT_S)


def deny(admin: AdminClient, name: str, operation: AclOperation) -> None:
    """Of a topic by that prefix; everything else about it is allowed to all."""
    everything = ("*", AclOperation.ALL, AclPermissionType.ALLOW)
    for principal_host, what, permission in (
        everything,
        ("127.0.0.1", operation, AclPermissionType.DENY),
    ):
        acl = AclBinding(
            ResourceType.TOPIC,
            name,
            ResourcePatternType.PREFIXED,
            "User:*" if permission is AclPermissionType.ALLOW else "User:ANONYMOUS",
            principal_host,
            what,
            permission,
        )
        admin.create_acls([acl])[acl].result(WAIT_S)


def allow(admin: AdminClient, name: str) -> int:
    """Take back all that was said of the topic; how much that was."""
    about = AclBindingFilter(
        ResourceType.TOPIC,
        name,
        ResourcePatternType.MATCH,
        None,
        None,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    found = admin.describe_acls(about).result(WAIT_S)
    (gone,) = admin.delete_acls([about]).values()
    assert set(gone.result(WAIT_S)) == set(found)
    assert admin.describe_acls(about).result(WAIT_S) == []
    return len(found)


def produced(broker: ottla.Broker, topic: str, **options: object) -> list[rd.KafkaError | None]:
    producer = rd.Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "log_level": 0, **options}
    )
    reports: list[rd.KafkaError | None] = []
    producer.produce(topic, b"v", on_delivery=lambda error, _: reports.append(error))
    producer.flush(WAIT_S)
    return reports


def test_a_producer_is_denied_and_allowed_on_the_same_topic(
    broker: ottla.Broker, admin: AdminClient
) -> None:
    make(admin, "w-1")
    assert produced(broker, "w-1") == [None]
    deny(admin, "w-", AclOperation.WRITE)
    (error,) = produced(broker, "w-1")
    assert error is not None and error.code() == DENIED
    assert allow(admin, "w-1") == 2
    assert produced(broker, "w-1") == [None]


def test_a_producer_that_is_at_work_is_stopped(broker: ottla.Broker, admin: AdminClient) -> None:
    """Its requests look alike, and the broker does not read them whole any more."""
    make(admin, "s-1")
    producer = rd.Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    codes: list[int] = []

    def told(error: rd.KafkaError | None, _: object) -> None:
        codes.append(0 if error is None else error.code())

    for number in range(21):
        if number == 20:
            deny(admin, "s-", AclOperation.WRITE)
        producer.produce("s-1", b"v", on_delivery=told)
        producer.flush(WAIT_S)
    assert codes == [0] * 20 + [DENIED]
    with pytest.raises(rd.KafkaException) as caught:  # the client has learned it
        producer.produce("s-1", b"v")
    assert caught.value.args[0].code() == DENIED


def test_a_consumer_is_denied_and_goes_on_when_it_is_allowed(
    broker: ottla.Broker, admin: AdminClient
) -> None:
    make(admin, "r-1")
    assert produced(broker, "r-1") == [None]
    deny(admin, "r-", AclOperation.READ)
    consumer = rd.Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "g",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    try:
        consumer.assign([rd.TopicPartition("r-1", 0, 0)])
        message = consumer.poll(WAIT_S)
        assert message is not None and message.error() is not None
        assert message.error().code() == DENIED
        allow(admin, "r-1")
        while message is None or message.error() is not None:
            message = consumer.poll(WAIT_S)
        assert message.value() == b"v"
    finally:
        consumer.close()


def test_a_topic_that_may_not_be_described_is_not_shown(
    broker: ottla.Broker, admin: AdminClient
) -> None:
    make(admin, "d-1")
    assert "d-1" in admin.list_topics(timeout=WAIT_S).topics
    deny(admin, "d-", AclOperation.DESCRIBE)
    assert "d-1" not in admin.list_topics(timeout=WAIT_S).topics
    (topic,) = admin.list_topics("d-1", timeout=WAIT_S).topics.values()
    assert topic.error is not None and topic.error.code() == DENIED


def test_a_transaction_over_a_topic_that_may_not_be_written(
    broker: ottla.Broker, admin: AdminClient
) -> None:
    """It cannot be committed, and what was written to the other topic is aborted with it."""
    for name in ("x-open", "y-denied"):
        make(admin, name)
    deny(admin, "y-", AclOperation.WRITE)
    producer = rd.Producer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "transactional.id": "x",
            "log_level": 0,
        }
    )
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    producer.produce("x-open", b"v")
    assert producer.flush(WAIT_S) == 0
    producer.produce("y-denied", b"v")
    with pytest.raises(rd.KafkaException) as caught:
        producer.commit_transaction(WAIT_S)
    assert caught.value.args[0].txn_requires_abort()
    producer.abort_transaction(WAIT_S)
    consumer = rd.Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "g",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        consumer.assign([rd.TopicPartition("x-open", 0, 0)])
        message = consumer.poll(WAIT_S)
        assert message is not None and message.error().code() == rd.KafkaError._PARTITION_EOF
    finally:
        consumer.close()
