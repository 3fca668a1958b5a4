"""Partitions: a key's is the one that every other client of Kafka finds, or its records would change their order."""

from __future__ import annotations

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from slotwire.ingest.foundation.kafka import partition_of


@given(key=st.binary(max_size=200), partitions=st.integers(1, 200))
def test_a_key_has_the_partition_that_other_clients_give_it(key: bytes, partitions: int) -> None:
    """As aiokafka's own partitioner, which is Java's, for keys of any length."""
    places = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, places, places)


def test_known_keys() -> None:
    """Values that Java's murmur2 gives."""
    assert [partition_of(key, 2**31) for key in (b"21", b"foobar", b"a-little-bit-long-string")] == [
        -973932308 & 0x7FFFFFFF,
        -790332482 & 0x7FFFFFFF,
        -985981536 & 0x7FFFFFFF,
    ]
