"""Xet's content-addressed store, as far as its client asks for it: xorbs (packed chunks) and shards (what files are).

A file is a sequence of chunk ranges of xorbs. Hashes are four little-endian 64-bit numbers, printed one after another.
"""

import re
import struct
from dataclasses import dataclass

HASH_BYTES = 32
RECORD_BYTES = 48  # every entry of a shard
HEADER_BYTES = 48
END_OF_FILES = b"\xff" * HASH_BYTES
HAS_VERIFICATION, HAS_METADATA = 1 << 31, 1 << 30


@dataclass(frozen=True)
class Segment:
    """Chunks `first` to `last` (excluded) of a xorb, and how many bytes they unpack to."""

    xorb: str
    size: int
    first: int
    last: int


class XetStore:
    """Xorbs and files by their hashes."""

    def __init__(self) -> None:
        self.xorbs: dict[str, bytes] = {}
        self.files: dict[str, list[Segment]] = {}
        self.hash_of_sha256: dict[str, str] = {}

    def add_shard(self, shard: bytes) -> None:
        """Take over the files that a shard describes."""
        place = HEADER_BYTES
        while place + RECORD_BYTES <= len(shard) and shard[place : place + HASH_BYTES] != END_OF_FILES:
            flags, num_segments = struct.unpack_from("<II", shard, place + HASH_BYTES)
            name = _printed(shard, place)
            place += RECORD_BYTES
            self.files[name] = [_segment(shard, place + index * RECORD_BYTES) for index in range(num_segments)]
            place += num_segments * RECORD_BYTES * (2 if flags & HAS_VERIFICATION else 1)
            if flags & HAS_METADATA:
                self.hash_of_sha256[_printed(shard, place)] = name
                place += RECORD_BYTES

    def reconstruction(self, file: str, byte_range: str | None, address: str) -> dict | None:
        """Say from where to fetch a file, or a range of it; None behind its end."""
        segments = self.files[file]
        total = sum(segment.size for segment in segments)
        start, stop = _parse_range(byte_range, total)
        if start >= total > 0:
            return None
        terms, sources, skipped, place = [], {}, 0, 0
        for segment in segments:
            if place < stop and place + segment.size > start:
                if not terms:
                    skipped = max(0, start - place)
                chunks = {"start": segment.first, "end": segment.last}
                terms.append({"hash": segment.xorb, "unpacked_length": segment.size, "range": chunks})
                source = self._source(segment, chunks, address)
                if source not in sources.setdefault(segment.xorb, []):
                    sources[segment.xorb].append(source)
            place += segment.size
        return {"offset_into_first_range": skipped, "terms": terms, "fetch_info": sources}

    def _source(self, segment: Segment, chunks: dict[str, int], address: str) -> dict:
        """Where the bytes of a segment's chunks are."""
        offsets = _chunk_offsets(self.xorbs[segment.xorb])
        url_range = {"start": offsets[segment.first], "end": offsets[segment.last] - 1}
        return {"range": chunks, "url": f"{address}/xorbs/{segment.xorb}", "url_range": url_range}


def _printed(data: bytes, place: int) -> str:
    return "".join(f"{number:016x}" for number in struct.unpack_from("<4Q", data, place))


def _segment(shard: bytes, place: int) -> Segment:
    _, size, first, last = struct.unpack_from("<IIII", shard, place + HASH_BYTES)
    return Segment(_printed(shard, place), size, first, last)


def _chunk_offsets(xorb: bytes) -> list[int]:
    """Where every chunk of a xorb begins, and where the last one ends; 8 bytes of header each with the packed size."""
    offsets, place = [0], 0
    while place + 8 <= len(xorb) and xorb[place] == 0 and xorb[place : place + 7] != b"XETBLOB":
        place += 8 + int.from_bytes(xorb[place + 1 : place + 4], "little")
        offsets.append(place)
    return offsets


def _parse_range(header: str | None, size: int) -> tuple[int, int]:
    """First byte and the one behind the last of `bytes=A-B`."""
    found = re.match(r"bytes=(\d+)-(\d*)", header or "")
    if not found:
        return 0, size
    return int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
