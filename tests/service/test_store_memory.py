import pytest

from service.store import Fenced
from service.store_memory import MemoryStore
from tests.contracts import PARTITIONS, ParameterStoreContract


class TestMemoryStore(ParameterStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore(PARTITIONS)


def test_load_replaces_a_partition_and_fences_off_its_holder():
    store = MemoryStore(2)
    token = store.claim(0).token
    store.apply(0, token, {b"old": b"1"}, start=0, stop=3)
    store.load(0, {b"new": b"2", b"m": b"meta"}, 9)
    assert dict(store.scan(0)) == {b"new": b"2", b"m": b"meta"}
    with pytest.raises(Fenced):
        store.apply(0, token, {}, start=9, stop=9)
    claim = store.claim(0)
    assert (claim.next, claim.meta) == (9, b"meta")


def test_zero_partitions_are_refused():
    with pytest.raises(ValueError, match="partitions must be >= 1, got 0"):
        MemoryStore(0)
