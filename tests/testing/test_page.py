"""docs/testing.md: its examples, each as a file of a project of its own."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
STRICT = """
    [pytest]
    filterwarnings = error
    asyncio_default_fixture_loop_scope = function
"""

pytestmark = [pytest.mark.clients]


@pytest.fixture
def project(pytester):
    pytester.makeini(STRICT)
    return pytester


@pytest.mark.parametrize("source", EXAMPLES, ids=lambda source: re.search(r"test_\w+", source)[0])
def test_an_example_passes(project, source):
    project.makepyfile(source)
    count = len(re.findall(r"^(?:async )?def test_", source, re.MULTILINE))
    done = project.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:anyio")
    done.assert_outcomes(passed=count)


def test_there_are_examples():
    assert len(EXAMPLES) >= 4


ASYNC = """
    import ottla
    import pytest

    {mark}
    async def test_first(kafka_broker, kafka_topic, kafka_producer, kafka_consumer):
        kafka_producer.send_and_wait(kafka_topic, b"1")
        async with ottla.Producer(bootstrap_servers=kafka_broker.bootstrap_servers) as producer:
            await producer.send_and_wait(kafka_topic, b"2")
        assert [record.value for record in kafka_consumer.poll(10_000)][0] == b"1"

    {mark}
    async def test_second(kafka_broker, kafka_topic):
        servers = kafka_broker.bootstrap_servers
        async with ottla.Consumer(bootstrap_servers=servers) as consumer:
            assert await consumer.end_offsets((kafka_topic, 0)) == {{(kafka_topic, 0): 0}}

    def test_third(kafka_topic, kafka_producer):
        assert kafka_producer.send_and_wait(kafka_topic, b"1").offset == 0
"""
WAYS = {
    "strict": ("@pytest.mark.asyncio", ["-p", "no:anyio"]),
    "auto": ("", ["-p", "no:anyio", "-o", "asyncio_mode=auto"]),
    "one loop": ('@pytest.mark.asyncio(loop_scope="session")', ["-p", "no:anyio"]),
    "anyio": (
        '@pytest.mark.anyio\n    @pytest.mark.parametrize("anyio_backend", ["asyncio"])',
        ["-p", "no:asyncio", "-W", "ignore::pytest.PytestConfigWarning"],
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_coroutines_and_functions_share_a_broker(project, way):
    mark, words = WAYS[way]
    project.makepyfile(ASYNC.format(mark=mark))
    done = project.runpytest_subprocess("-p", "no:cacheprovider", *words)
    done.assert_outcomes(passed=3)


def test_the_plugin_by_its_name(project, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    project.makeini("[pytest]")
    project.makepyfile("def test_it(kafka_topic): assert kafka_topic")
    words = ("-p", "no:cacheprovider")
    project.runpytest_subprocess("-p", "ottla", *words).assert_outcomes(passed=1)
    project.runpytest_subprocess(*words).assert_outcomes(errors=1)
