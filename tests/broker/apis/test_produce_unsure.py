"""A Produce of which the broker does not know whether it was appended."""

import pytest

from ottla.base.errors import ErrorCode
from ottla.protocol.framing import decode_response
from ottla.protocol.registry import ApiKey
from ottla.replica.partition import Partition
from ottla.storage.log import Log
from tests.broker.test_produce_shape import Both, batch, frame

VERSION = 9
BREAKS = [(Partition, RuntimeError), (Partition, OSError), (Log, RuntimeError), (Log, OSError)]


def codes_of(answers):
    """The error code of each answer; a response is the parts of one frame."""
    read = [decode_response(ApiKey.PRODUCE, VERSION, memoryview(each)[4:])[1] for each in answers]
    return [each.responses[0].partition_responses[0].error_code for each in read]


@pytest.mark.parametrize("acks", [1, -1])
@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize(("owner", "error"), BREAKS)
def test_b12_what_may_have_been_appended_is_never_answered_as_an_unknown_error(
    on_node, monkeypatch, owner, error, is_known, acks
):
    """redpanda #5355, KAFKA-14034: on UNKNOWN_SERVER_ERROR the Java client gives the batch up, and
    the application sends it as another. `is_known`: by the way of a shape seen before."""

    async def test(node):
        topic = await node.topic("t")
        sender = Both(node, topic.id)

        def records(sequence):
            return batch([b"1"], producer_id=7, producer_epoch=0, base_sequence=sequence)

        if is_known:
            sender.send(frame(VERSION, 1, records(0), acks, topic.id))
            assert codes_of(await sender.answers(1)) == [0]
        append = owner.append

        def breaks(*arguments, **options):
            append(*arguments, **options)
            raise error("behind the append")

        with monkeypatch.context() as patched:
            patched.setattr(owner, "append", breaks)
            sender.send(frame(VERSION, 2, records(int(is_known)), acks, topic.id))
            answered = codes_of(await sender.answers(1 + is_known))[is_known:]
        assert set(answered) <= {ErrorCode.KAFKA_STORAGE_ERROR}
        assert answered or sender.sink.is_closed

    on_node(test)
