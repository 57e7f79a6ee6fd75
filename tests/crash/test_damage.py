"""A batch that is damaged between two lives of a broker, as a client meets it."""

from pathlib import Path

import confluent_kafka as rd

from tests.tools.serving import serving


def consume(bootstrap: str, offset: int) -> bytes | rd.KafkaError:
    """The record at an offset, or the error for it."""
    consumer = rd.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "g", "enable.auto.commit": False}
    )
    try:
        consumer.assign([rd.TopicPartition("t", 0, offset)])
        while (message := consumer.poll(60)) is not None:
            error = message.error()
            if error is None:
                return message.value()
            if error.code() != rd.KafkaError._TRANSPORT:
                return error
        raise AssertionError("nothing came")
    finally:
        consumer.close()


def test_a_damaged_batch_is_an_error_and_the_others_are_served(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        producer = rd.Producer({"bootstrap.servers": server.bootstrap})
        for number in range(3):
            producer.produce("t", b"value %d" % number)
            assert producer.flush(30) == 0
        server.stop()
        log = server.data / "t-0" / "00000000000000000000.log"
        data = bytearray(log.read_bytes())
        position = data.index(b"value 1")
        data[position] ^= 1
        log.write_bytes(data)
        server.start()
        error = consume(server.bootstrap, 1)
        assert isinstance(error, rd.KafkaError)
        assert error.code() == rd.KafkaError.INVALID_MSG  # CORRUPT_MESSAGE
        lines = [line for line in server.log.read_text().splitlines() if "CORRUPT_MESSAGE" in line]
        assert f"{log}: position " in lines[0]
        assert lines[0].endswith("bytes: CRC")
        assert consume(server.bootstrap, 2) == b"value 2"
        assert log.read_bytes() == data
