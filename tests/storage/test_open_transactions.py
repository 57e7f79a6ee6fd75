from ottla.storage.open_transactions import NONE_OPEN, OpenTransactions


def begun(*starts: int) -> OpenTransactions:
    """Of producers 0, 1 and so on."""
    transactions = OpenTransactions()
    for producer_id, start in enumerate(starts):
        transactions.begin(producer_id, start)
    return transactions


def test_who_has_one_open() -> None:
    transactions = begun(10)
    assert 0 in transactions
    assert 1 not in transactions
    transactions.end(0, 12)
    assert 0 not in transactions


def test_without_any_all_is_stable() -> None:
    transactions = begun()
    assert transactions.first_unstable == NONE_OPEN
    transactions.settle(10)
    assert transactions.first_unstable == NONE_OPEN == (1 << 63) - 1


def test_the_oldest_of_the_others() -> None:
    transactions = begun(10, 20, 30)
    assert [transactions.first_without(each) for each in range(4)] == [20, 10, 10, 10]
    assert begun(10).first_without(0) == NONE_OPEN


def test_an_end_is_settled_when_the_high_watermark_has_passed_its_marker() -> None:
    transactions = begun(10, 20)
    transactions.end(0, 40)
    transactions.end(1, 41)
    for high_watermark, first in ((15, 10), (40, 10), (41, 20), (42, NONE_OPEN)):
        transactions.settle(high_watermark)
        assert transactions.first_unstable == first, high_watermark


def test_a_producer_that_is_forgotten_holds_nobody() -> None:
    transactions = OpenTransactions()
    transactions.begin(1, 10)
    transactions.begin(2, 20)
    transactions.drop(3)
    assert transactions.first_unstable == 10
    transactions.drop(1)
    assert transactions.first_unstable == transactions.first_open == 20
    transactions.drop(2)
    assert transactions.first_unstable == NONE_OPEN
