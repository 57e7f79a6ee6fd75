"""Brokers of one topic "t" in the simulated world, which do as a test says."""

from ottla.base.errors import ErrorCode
from ottla.client.producer import Producer
from ottla.protocol.messages.init_producer_id import InitProducerIdResponse
from ottla.protocol.messages.metadata import MetadataResponse, MetadataResponseBroker
from ottla.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceResponse,
    TopicProduceResponse,
)
from ottla.records.batch import batch_crc, read_header
from ottla.records.record import iterate_records
from tests.client.test_cluster import TOPIC_ID, topic_row
from tests.rpc.conftest import PORT, versions_answer


class Partitions:
    """A broker: what it took, by partition. It knows twins, and the topic by its id."""

    def __init__(self, stage, count=1, most=1 << 20, nodes=1, port=PORT):
        self.logs = {index: [] for index in range(count)}
        self.most = most
        self.taken = {}
        self.is_dumb = False
        """It does not answer, and takes nothing."""
        self.codes = []
        """Errors for the next batches that come, one each."""
        self.produced = []
        """(partition, bytes) of each batch that came."""
        self.epochs = []
        """(producer epoch, first sequence) of each."""
        self.topic_id = TOPIC_ID
        self.topics = [topic_row("t", *[1] * count)]
        self.nodes = [
            MetadataResponseBroker(node_id=1 + n, host="broker", port=PORT + n)
            for n in range(nodes)
        ]
        stage.listen(self.reply, port)

    def reply(self, header, request):
        if header.api_key == 3:
            return MetadataResponse(brokers=self.nodes, controller_id=1, topics=self.topics)
        if header.api_key == 22:
            return InitProducerIdResponse(producer_id=77, producer_epoch=0)
        if header.api_key == 0:
            return self.produce(request)
        return versions_answer(header, request)

    def produce(self, request):
        (topic,) = request.topic_data
        rows = []
        for row in topic.partition_data:
            records = bytes(row.records)
            self.produced.append((row.index, len(records)))
            if not self.is_dumb:
                is_known = topic.topic_id == self.topic_id
                rows.append(self.take(row.index, records, is_known=is_known))
        answer = TopicProduceResponse(name="t", topic_id=topic.topic_id, partition_responses=rows)
        is_silent = self.is_dumb or not request.acks
        return None if is_silent else ProduceResponse(responses=[answer])

    def take(self, index, records, *, is_known):
        header = read_header(records)
        assert batch_crc(records, 0, len(records)) == header.crc, "its bytes changed"
        self.epochs.append((header.producer_epoch, header.base_sequence))
        code = self.codes.pop(0) if self.codes else ErrorCode.NONE
        if len(records) > self.most:
            code = ErrorCode.MESSAGE_TOO_LARGE
        elif not is_known:
            code = ErrorCode.UNKNOWN_TOPIC_ID
        if code:
            return PartitionProduceResponse(index=index, error_code=code, base_offset=-1)
        log = self.logs[index]
        twin = index, header.producer_id, header.producer_epoch, header.base_sequence
        base_offset = len(log)
        if header.producer_id >= 0:
            base_offset = self.taken.setdefault(twin, len(log))
        if base_offset == len(log):
            log += [record.value for record in iterate_records(records, 1 << 30)]
        return PartitionProduceResponse(index=index, base_offset=base_offset)


def played(stage, script, **options):
    async def whole():
        producer = Producer(
            world=stage.world,
            bootstrap_servers=f"broker:{PORT}",
            **{"request_timeout_ms": 1_000, **options},
        )
        await producer.start()
        await script(producer)
        await producer.close()

    stage.play(whole)
