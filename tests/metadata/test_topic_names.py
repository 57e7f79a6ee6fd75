import pytest

from ottla.base.errors import ErrorCode, KafkaError
from ottla.metadata.topic_names import check_no_collision, check_topic_name


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "...", "x" * 249, "__consumer_offsets"])
def test_names_that_may_be(name):
    check_topic_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "x" * 250, "a b", "a/b", "a\n", "a\0", "ä", "١", "a" * 10**6, "%"]
)
def test_names_that_may_not_be(name):
    with pytest.raises(KafkaError) as caught:
        check_topic_name(name)
    assert caught.value.code is ErrorCode.INVALID_TOPIC_EXCEPTION
    assert len(caught.value.message) < 500


def test_collisions():
    check_no_collision("a.b", ["a-b", "a.b", "ab", "a..b"])
    check_no_collision("ab", ["a.b"])
    for name, other in (("a.b", "a_b"), ("a_b", "a.b"), ("._", "..")):
        with pytest.raises(KafkaError, match="collides"):
            check_no_collision(name, ["x", other])
