"""The fixtures, in a session of pytest's own."""

import pytest

pytest_plugins = ["pytester"]

SHARED = """
    import pytest

    @pytest.fixture(scope="session")
    def kafka_broker_settings():
        return {"num.partitions": "2"}
"""


@pytest.fixture
def session(pytester):
    pytester.makeini("[pytest]\n")
    pytester.makeconftest(SHARED)
    return pytester


def test_records_go_round(session):
    session.makepyfile(
        """
        def test_blocking(kafka_topic, kafka_producer, kafka_consumer):
            kafka_producer.send_and_wait(kafka_topic, b"hello")
            assert next(iter(kafka_consumer)).value == b"hello"
        """
    )
    session.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_one_broker_many_topics_and_faults_that_end(session):
    session.makepyfile(
        """
        import ottla
        seen = []

        def test_first(kafka_broker, kafka_topic):
            seen.append((kafka_broker, kafka_topic))
            kafka_broker.faults.error("CreateTopics", "POLICY_VIOLATION", times=None)

        def test_second(kafka_broker, kafka_topic):
            broker, topic = seen[0]
            assert broker is kafka_broker and topic != kafka_topic
            assert not kafka_broker.faults.has_orders
        """
    )
    session.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=2)


def test_marks_give_a_broker_and_a_topic_as_asked(session):
    session.makepyfile(
        """
        import ottla
        import pytest
        from ottla.client.rows import Resource

        @pytest.mark.kafka_broker({"auto.create.topics.enable": "false"})
        @pytest.mark.kafka_topic(partitions=3, configs={"retention.ms": "1000"})
        def test_own(kafka_broker, kafka_shared_broker, kafka_topic, kafka_producer):
            assert kafka_broker is not kafka_shared_broker
            assert len(kafka_producer.partitions_for(kafka_topic)) == 3
            with ottla.SyncAdmin(bootstrap_servers=kafka_broker.bootstrap_servers) as admin:
                assert set(admin.list_topics())
        """
    )
    session.runpytest_subprocess().assert_outcomes(passed=1)


def test_under_xdist_each_worker_has_a_broker(session):
    session.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("n", range(4))
        def test_it(n, kafka_topic, kafka_producer):
            assert kafka_producer.send_and_wait(kafka_topic, b"x").offset == 0
        """
    )
    session.runpytest_subprocess("-n", "2").assert_outcomes(passed=4)


def test_nothing_is_loaded_before_it_is_asked_for(session):
    session.makepyfile(
        """
        import sys

        def test_it():
            assert "ottla.testing.plugin" in sys.modules
            assert "ottla.broker.node" not in sys.modules
        """
    )
    session.runpytest_subprocess().assert_outcomes(passed=1)
