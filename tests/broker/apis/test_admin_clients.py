"""The admin APIs as other people's clients use them: librdkafka (confluent-kafka), kafka-python."""

import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from ottla.embed.broker import Broker

confluent = pytest.importorskip("confluent_kafka")
kafka = pytest.importorskip("kafka")

from confluent_kafka import admin as rdkafka  # noqa: E402
from kafka import admin as python  # noqa: E402
from kafka import errors as python_errors  # noqa: E402

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with Broker(settings={"num.partitions": "2"}) as running:
        yield running


@pytest.fixture(scope="module")
def rd(broker: Broker) -> Any:
    return rdkafka.AdminClient({"bootstrap.servers": broker.bootstrap_servers})


@pytest.fixture(scope="module")
def py(broker: Broker) -> Iterator[Any]:
    logging.getLogger("kafka").setLevel(logging.ERROR)
    client = python.KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    yield client
    client.close()


def done(futures):
    """The results of librdkafka's futures; the first error is raised."""
    return {key: future.result(timeout=20) for key, future in futures.items()}


def code_of(future):
    with pytest.raises(confluent.KafkaException) as caught:
        future.result(timeout=20)
    return caught.value.args[0].code()


def partition_counts(rd, *names):
    topics = done(rd.describe_topics(confluent.TopicCollection(list(names))))
    return {name: len(topic.partitions) for name, topic in topics.items()}


class TestLibrdkafka:
    def test_topics_are_made_grow_and_go(self, rd):
        new = [rdkafka.NewTopic("rd-a", 3, 1), rdkafka.NewTopic("rd-b")]
        assert done(rd.create_topics(new)) == {"rd-a": None, "rd-b": None}
        assert partition_counts(rd, "rd-a", "rd-b") == {"rd-a": 3, "rd-b": 2}
        done(rd.create_partitions([rdkafka.NewPartitions("rd-a", 5)]))
        assert partition_counts(rd, "rd-a") == {"rd-a": 5}
        done(rd.delete_topics(["rd-a", "rd-b"]))
        described = rd.describe_topics(confluent.TopicCollection(["rd-a"]))
        assert code_of(described["rd-a"]) == confluent.KafkaError.UNKNOWN_TOPIC_OR_PART

    def test_refusals_have_kafkas_codes(self, rd):
        done(rd.create_topics([rdkafka.NewTopic("rd-c", 2, 1)]))
        errors = confluent.KafkaError
        create = rd.create_topics(
            [
                rdkafka.NewTopic("rd-c", 1, 1),
                rdkafka.NewTopic("rd d", 1, 1),
                rdkafka.NewTopic("rd-d", 1, 3),
                rdkafka.NewTopic("rd-e", 1, 1, config={"segment.bytes": "many"}),
            ]
        )
        assert {name: code_of(future) for name, future in create.items()} == {
            "rd-c": errors.TOPIC_ALREADY_EXISTS,
            "rd d": errors.TOPIC_EXCEPTION,
            "rd-d": errors.INVALID_REPLICATION_FACTOR,
            "rd-e": errors.INVALID_CONFIG,
        }
        (grow,) = rd.create_partitions([rdkafka.NewPartitions("rd-c", 2)]).values()
        assert code_of(grow) == errors.INVALID_PARTITIONS
        (delete,) = rd.delete_topics(["rd-none"]).values()
        assert code_of(delete) == errors.UNKNOWN_TOPIC_OR_PART

    def test_validate_only(self, rd):
        done(rd.create_topics([rdkafka.NewTopic("rd-f", 1, 1)], validate_only=True))
        described = rd.describe_topics(confluent.TopicCollection(["rd-f"]))
        assert code_of(described["rd-f"]) == confluent.KafkaError.UNKNOWN_TOPIC_OR_PART

    @pytest.mark.filterwarnings("ignore:alter_configs has been deprecated")
    def test_configs(self, rd):
        done(rd.create_topics([rdkafka.NewTopic("rd-g", 1, 1, config={"retention.ms": "5000"})]))
        resource = rdkafka.ConfigResource(rdkafka.ResourceType.TOPIC, "rd-g")

        def values():
            (configs,) = done(rd.describe_configs([resource])).values()
            return configs

        source = rdkafka.ConfigSource
        assert values()["retention.ms"].value == "5000"
        assert values()["retention.ms"].source == source.DYNAMIC_TOPIC_CONFIG.value
        assert values()["segment.bytes"].source == source.DEFAULT_CONFIG.value

        change = rdkafka.ConfigResource(
            rdkafka.ResourceType.TOPIC,
            "rd-g",
            incremental_configs=[
                rdkafka.ConfigEntry(
                    "cleanup.policy",
                    "compact",
                    incremental_operation=rdkafka.AlterConfigOpType.APPEND,
                ),
                rdkafka.ConfigEntry(
                    "retention.ms", None, incremental_operation=rdkafka.AlterConfigOpType.DELETE
                ),
            ],
        )
        done(rd.incremental_alter_configs([change]))
        assert values()["cleanup.policy"].value == "delete,compact"
        assert values()["retention.ms"].value == "604800000"

        replace = rdkafka.ConfigResource(
            rdkafka.ResourceType.TOPIC, "rd-g", set_config={"retention.ms": "7000"}
        )
        done(rd.alter_configs([replace]))
        assert values()["retention.ms"].value == "7000"
        assert values()["cleanup.policy"].value == "delete"

        wrong = rdkafka.ConfigResource(
            rdkafka.ResourceType.TOPIC, "rd-g", set_config={"retention.ms": "soon"}
        )
        (refused,) = rd.alter_configs([wrong]).values()
        assert code_of(refused) == confluent.KafkaError.INVALID_CONFIG

    def test_the_brokers_configs(self, rd):
        broker = rdkafka.ConfigResource(rdkafka.ResourceType.BROKER, "1")
        (configs,) = done(rd.describe_configs([broker])).values()
        assert configs["num.partitions"].value == "2"
        assert configs["num.partitions"].is_read_only

    def test_the_cluster(self, rd):
        cluster = rd.describe_cluster().result(timeout=20)
        assert [node.id for node in cluster.nodes] == [1]
        assert cluster.controller.id == 1

    def test_records_are_deleted(self, rd, broker):
        done(rd.create_topics([rdkafka.NewTopic("rd-h", 1, 1)]))
        producer = confluent.Producer(
            {"bootstrap.servers": broker.bootstrap_servers, "enable.idempotence": True}
        )
        for number in range(10):
            producer.produce("rd-h", b"%d" % number)
        assert producer.flush(20) == 0
        partition = confluent.TopicPartition("rd-h", 0, 4)
        (result,) = done(rd.delete_records([partition])).values()
        assert result.low_watermark == 4
        consumer = confluent.Consumer(
            {"bootstrap.servers": broker.bootstrap_servers, "group.id": "none"}
        )
        low, high = consumer.get_watermark_offsets(partition, timeout=20)
        consumer.close()
        assert (low, high) == (4, 10)


class TestKafkaPython:
    def test_topics_are_made_grow_and_go(self, py):
        answer = py.create_topics({"py-a": {"num_partitions": 3}, "py-b": {}})
        assert [topic["num_partitions"] for topic in answer["topics"]] == [3, 2]
        assert {"py-a", "py-b"} <= set(py.list_topics())
        py.create_partitions({"py-a": 5})
        (topic,) = py.describe_topics(["py-a"])
        assert len(topic["partitions"]) == 5
        (other,) = py.describe_topics(["py-b"])
        py.delete_topics(["py-a"])
        py.delete_topics([UUID(other["topic_id"])])
        assert not {"py-a", "py-b"} & set(py.list_topics())

    @pytest.mark.parametrize(
        ("new", "error"),
        [
            ({"py-c": {}}, python_errors.TopicAlreadyExistsError),
            ({"py d": {}}, python_errors.InvalidTopicError),
            ({"py-d": {"replication_factor": 3}}, python_errors.InvalidReplicationFactorError),
            ({"py-d": {"assignments": {0: [9]}}}, python_errors.InvalidReplicationAssignmentError),
            (
                {"py-d": {"configs": {"segment.bytes": "x"}}},
                python_errors.InvalidConfigurationError,
            ),
        ],
    )
    def test_refusals_have_kafkas_codes(self, py, new, error):
        if "py-c" not in py.list_topics():
            py.create_topics(["py-c"])
        with pytest.raises(error):
            py.create_topics(new)

    def test_configs(self, py):
        py.create_topics({"py-e": {"configs": {"retention.ms": "5000"}}})

        def values():
            asked = [python.ConfigResource("TOPIC", "py-e")]
            configs = py.describe_configs(asked)["topic"]["py-e"]
            return {key: row["value"] for key, row in configs.items()}

        assert values() == {"retention.ms": "5000"}
        change = {"retention.ms": "6000", "cleanup.policy": ("APPEND", "compact")}
        py.alter_configs([python.ConfigResource("TOPIC", "py-e", change)])
        assert values() == {"retention.ms": "6000", "cleanup.policy": "delete,compact"}
        py.reset_configs([python.ConfigResource("TOPIC", "py-e", ["retention.ms"])])
        assert values() == {"cleanup.policy": "delete,compact"}
        replace = python.ConfigResource("TOPIC", "py-e", {"retention.ms": "8000"})
        py.alter_configs([replace], incremental=False)
        assert values()["retention.ms"] == "8000"
        names = py.list_config_resources(["TOPIC", "BROKER"])
        assert "py-e" in names["topic"]
        assert names["broker"] == ["1"]

    def test_dynamic_configs_of_the_broker(self, py):
        def value():
            asked = [python.ConfigResource("BROKER", "1", ["log.retention.ms"])]
            rows = py.describe_configs(asked, config_filter="all")["broker"]["1"]
            return rows["log.retention.ms"]["value"], rows["log.retention.ms"]["config_source"]

        assert value() == (None, "DEFAULT_CONFIG")
        py.alter_configs([python.ConfigResource("BROKER", "1", {"log.retention.ms": "9000"})])
        assert value() == ("9000", "DYNAMIC_BROKER_CONFIG")
        py.reset_configs([python.ConfigResource("BROKER", "1", ["log.retention.ms"])])
        assert value() == (None, "DEFAULT_CONFIG")

    def test_partitions_producers_and_directories(self, py, broker):
        py.create_topics({"py-f": {"num_partitions": 1}}, wait_for_metadata=True)
        partition = kafka.TopicPartition("py-f", 0)
        with kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
            for number in range(10):
                producer.send("py-f", b"%d" % number, partition=0)
            producer.flush()
        (state,) = py.describe_producers([partition])[partition].active_producers
        assert (state.producer_epoch, state.last_sequence) == (0, 9)
        (directory,) = py.describe_log_dirs({"py-f": [0]})[0]["log_dirs"]
        assert directory["error_code"] == 0
        assert directory["topics"][0]["partitions"][0]["partition_size"] > 0
        assert 0 < directory["usable_bytes"] <= directory["total_bytes"]
        (topic,) = py.describe_topic_partitions(["py-f"])["topics"]
        assert [row["leader_id"] for row in topic["partitions"]] == [1]
        assert py.delete_records({partition: 4})[partition]["low_watermark"] == 4

    def test_the_cluster(self, py):
        cluster = py.describe_cluster()
        assert cluster["controller_id"] == 1
        assert [each["broker_id"] for each in cluster["brokers"]] == [1]
        assert "DESCRIBE_CONFIGS" in cluster["authorized_operations"]
