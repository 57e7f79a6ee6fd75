"""Reading a partition as another client reads it, to see what a producer of ours wrote."""

from tests.clients.peers import Confluent


def read_all(broker, topic, partition=0):
    """Every record of a partition, by librdkafka."""
    import confluent_kafka as rd

    asking = rd.Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "none"})
    try:
        start, end = asking.get_watermark_offsets(rd.TopicPartition(topic, partition), 30)
    finally:
        asking.close()
    return Confluent.consume(broker.bootstrap_servers, topic, {partition: start}, end - start)
