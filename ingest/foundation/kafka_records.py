r"""Reads records whatever their headers are called.

The name of a Kafka header is text by convention only: a broker stores any bytes. aiokafka 0.14 refuses a batch with a
name that is not UTF-8, each time it reads it, so one such record would stop every reader of its partition for ever.
`read_any_header_name` puts a reader in its place that writes such bytes as `\xNN`. Other batches are read as before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, SupportsIndex, overload

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_BEGINNING = struct.Struct(">qi")
"""What a batch begins with: its first offset, and how many bytes follow."""


class _Readable(bytearray):
    """Bytes of which every part can be read as text."""

    @overload
    def __getitem__(self, place: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, place: slice, /) -> _Readable: ...
    def __getitem__(self, place: SupportsIndex | slice, /) -> int | _Readable:
        return _Readable(super().__getitem__(place)) if isinstance(place, slice) else super().__getitem__(place)

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class _CarefulBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka ships no types
    """A batch read by aiokafka's own code in Python, from bytes that can always be read."""

    _buffer: Any

    def __iter__(self) -> _CarefulBatch:
        self._maybe_uncompress()
        self._buffer = _Readable(self._buffer)
        return self


class _Batch:
    """A batch read the quick way, and the careful one if that fails."""

    def __init__(self, quick: Any, encoded: memoryview) -> None:
        self._quick = quick
        self._encoded = encoded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._quick, name)

    def __next__(self) -> Any:
        return next(self._quick)  # the one record of a control batch

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._quick))
        except (CorruptRecordException, UnicodeDecodeError):
            return iter(_CarefulBatch(self._encoded))


class _Records:
    """The batches of one answer of the broker."""

    def __init__(self, encoded: bytes) -> None:
        self._quick = MemoryRecords(encoded)
        self._encoded = encoded
        self._next = 0

    def size_in_bytes(self) -> int:
        return len(self._encoded)

    def has_next(self) -> bool:
        return bool(self._quick.has_next())

    def next_batch(self) -> _Batch:
        start = self._next
        self._next += _BEGINNING.size + _BEGINNING.unpack_from(self._encoded, start)[1]
        return _Batch(self._quick.next_batch(), memoryview(self._encoded)[start : self._next])


def read_any_header_name() -> None:
    """Let every consumer of this process read records with any header name."""
    fetcher.MemoryRecords = _Records
