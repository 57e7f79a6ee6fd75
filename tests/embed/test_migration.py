"""docs/migration.md: every name in its tables is there, theirs and ours, and none is left out.

The first column of a table names things of theirs, the second those of ours; what each is looked
up in stands in the head. Where the page says nothing besides, defaults are the same.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import aiokafka
import confluent_kafka
import pytest

import ottla
from ottla.client import delivery, errors, offsets, partitioners, records, rows
from ottla.client.consumer_settings import ConsumerSettings
from ottla.client.producer_settings import ProducerSettings
from tests.clients.peers import MARKS, kafka

pytestmark = MARKS
PAGE = Path(__file__).resolve().parents[2] / "docs" / "migration.md"
CODE = re.compile(r"`([^`]+)`")
SETTINGS = {
    each.name: each.default
    for settings in (ProducerSettings, ConsumerSettings)
    for each in fields(settings)
}
HOMES = (ottla, delivery, errors, offsets, partitioners, records, rows)
NOT_TOLD = {
    "DEFAULT_CONFIG",
    "DEPRECATED_CONFIGS",
    "DEFAULT_SESSION_TIMEOUT_MS_PRE_KIP_735",
    "count",  # of every named tuple
    "index",
}
"""Public by accident."""


class Row(NamedTuple):
    theirs: str
    """What the names are looked up in, from the head of the table."""
    ours: str
    names: list[str]
    answer: str
    note: str

    @property
    def is_of_options(self):
        return self.theirs.startswith("options ")

    @property
    def is_whole(self):
        """Whether the table means to name everything."""
        return not self.theirs.startswith("errors ") and "confluent_kafka`" not in self.theirs


def rows_of(page):
    found, head = [], None
    for line, after in zip(page.splitlines(), [*page.splitlines()[1:], ""], strict=True):
        cells = [each.strip() for each in line.strip("|").split("|")]
        if not line.startswith("|"):
            head = None
        elif after.startswith("|--"):
            head = cells
        elif head is not None and not line.startswith("|--"):
            names, answer, note = cells
            found.append(Row(head[0], head[1], CODE.findall(names), answer, note))
    return found


ROWS = rows_of(PAGE.read_text())


def looked_up(path):
    """The thing that a dotted name of a module's names."""
    parts = path.split(".")
    found = import_module(parts[0])
    for at, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            found = import_module(".".join(parts[:at]))
        else:
            found = getattr(found, part)
    return found


@cache
def options_of(library):
    """Theirs, with their defaults; None where they do not tell."""
    if library == "aiokafka":
        clients = (aiokafka.AIOKafkaProducer, aiokafka.AIOKafkaConsumer)
        all_options = [inspect.signature(each).parameters.items() for each in clients]
        return {name: each.default for options in all_options for name, each in options}
    if library == "kafka":
        return {**kafka.KafkaProducer.DEFAULT_CONFIG, **kafka.KafkaConsumer.DEFAULT_CONFIG}
    return None


def is_of_librdkafka(option):
    if option.endswith("_cb") or option.startswith("on_"):
        return True  # the binding's own
    try:
        confluent_kafka.Producer({option: "", "log_level": 0})
    except confluent_kafka.KafkaException as error:
        return "No such configuration property" not in str(error)
    return True


def has_theirs(row, name):
    home = CODE.findall(row.theirs)[0]
    if not row.is_of_options:
        return name in names_of(looked_up(home))
    options = options_of(home)
    return is_of_librdkafka(name) if options is None else name in options


def names_of(thing):
    """Fields of a dataclass that have no default are among its annotations alone."""
    return {*dir(thing), *getattr(thing, "__annotations__", ())}


def has_ours(row, name):
    name = name.partition("(")[0]
    if row.is_of_options and name in SETTINGS:
        return True
    owner = [] if row.is_of_options else [looked_up(CODE.findall(row.ours)[0])]
    return any(has(each, name) for each in (*owner, *HOMES))


def has(owner, name):
    for part in name.split("."):
        if not hasattr(owner, part):
            return False
        owner = getattr(owner, part)
    return True


def counterparts(row):
    if row.answer == "the same":
        return [name.replace(".", "_") for name in row.names]
    return CODE.findall(row.answer)


def name_first(row):
    return row.names[0]


@pytest.mark.parametrize("row", ROWS, ids=name_first)
def test_each_name_is_there(row):
    assert [name for name in row.names if not has_theirs(row, name)] == []
    assert [name for name in counterparts(row) if not has_ours(row, name)] == []
    assert row.answer in ("the same", "—") or counterparts(row)


@pytest.mark.parametrize("row", [each for each in ROWS if each.answer == "—"], ids=name_first)
def test_what_is_said_to_be_missing_is(row):
    assert [name for name in row.names if has_ours(row, name.replace(".", "_"))] == []


@pytest.mark.parametrize("theirs", sorted({row.theirs for row in ROWS if row.is_whole}))
def test_none_is_left_out(theirs):
    home = CODE.findall(theirs)[0]
    names = options_of(home) if theirs.startswith("options ") else names_of(looked_up(home))
    told = {name for row in ROWS if row.theirs == theirs for name in row.names}
    public = {name for name in names if not name.startswith("_")}
    assert public - told - NOT_TOLD == set()


def test_defaults_are_the_same_where_nothing_is_said():
    wrong = {}
    for row in ROWS:
        theirs: Mapping[str, object] | None = (
            options_of(CODE.findall(row.theirs)[0]) if row.is_of_options else None
        )
        if theirs is not None and row.answer == "the same" and not row.note:
            wrong |= {
                name: (theirs[name], SETTINGS[name])
                for name in row.names
                if theirs[name] != SETTINGS[name]
            }
    assert wrong == {}


def test_their_partitions_will_do(broker):
    with ottla.SyncProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        producer.send_and_wait("t", b"hello")
    with ottla.SyncConsumer(bootstrap_servers=broker.bootstrap_servers) as consumer:
        for theirs in (aiokafka.TopicPartition("t", 0), kafka.TopicPartition("t", 0)):
            consumer.assign([theirs])
            consumer.seek(theirs, 0)
            assert [record.value for record in consumer.poll(30_000)] == [b"hello"]


def test_there_are_tables():
    assert len(ROWS) > 100
    assert len({row.theirs for row in ROWS}) >= 13
