"""The files in a tar archive and where their bytes lie, read from its headers alone."""

import os
import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from utils.errors import DataError

__all__ = ["Member", "members"]

BLOCK = 512
REGULAR = b"0\0007"  # the types of a plain file: POSIX, the oldest tar, contiguous
LONG_NAME, PAX, PAX_FOR_ALL, SPARSE = b"L", b"x", b"g", b"S"
PACKED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}  # by the first bytes
RECORD = re.compile(rb"(\d+) ([^=]+)=")  # of a pax header: its length, the keyword; then the value and a line's end
ADLER = 65521  # the low half of adler32 is 1 + the sum of all bytes, modulo this prime
LARGEST_HEADER = 1 << 20  # bytes of a header's own content: a name, or pax records


class Member(NamedTuple):
    """A file in an archive: its name, the position of its first byte, and its size in bytes."""

    name: str
    offset: int
    size: int


class Header(NamedTuple):
    """A block of 512 bytes that stands before a member's content."""

    kind: bytes
    name: bytes
    size: int


def members(path: str) -> Iterator[Member]:
    """Yield the plain files of an archive in its order.

    Reads ustar, GNU's and pax archives, which Python's tarfile, GNU tar and the webdataset package write. Raises
    DataError, with the file and the position, for one that is packed, cut off or damaged.
    """
    descriptor = _opened(path)
    try:
        yield from _walk(path, descriptor, os.fstat(descriptor).st_size)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); is the disk there?") from error
    finally:
        os.close(descriptor)


def _opened(path: str) -> int:
    try:
        if not os.path.isfile(path):
            raise OSError(0, "it is no regular file")
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror}); put it back") from error


def _walk(path: str, descriptor: int, length: int) -> Iterator[Member]:
    position, told, for_all = 0, dict[bytes, bytes](), dict[bytes, bytes]()
    if packed := PACKED.get(os.pread(descriptor, 2, 0)):
        raise DataError(f"{path} is packed by {packed}, so that no sample can be read by itself; unpack it")
    while True:
        block = os.pread(descriptor, BLOCK, position)
        if len(block) < BLOCK:
            raise _cut_off(path, position, "there is no mark of its end")
        if not any(block):
            return _check_rest(path, descriptor, position, length)
        header = _parsed(path, block, position)
        known = for_all | told if for_all else told
        size = int(known.get(b"size", header.size))
        start, end = position + BLOCK, position + BLOCK + size
        if end > length:
            name = known.get(b"path", header.name).decode("utf-8", "replace")
            raise _cut_off(path, position, f"{name} there needs {end - length:,} bytes more than the file has")
        if header.kind == LONG_NAME:
            told[b"path"] = _content(path, descriptor, start, size).split(b"\0")[0]
        elif header.kind == PAX:
            told |= _records(path, _content(path, descriptor, start, size), position)
        elif header.kind == PAX_FOR_ALL:
            for_all |= _records(path, _content(path, descriptor, start, size), position)
        else:
            if header.kind == SPARSE or any(key.startswith(b"GNU.sparse") for key in known):
                raise DataError(f"{path} holds a sparse file at byte {position:,}; make it again without --sparse")
            name = known.get(b"path", header.name)
            if header.kind in REGULAR and not name.endswith(b"/"):
                yield Member(name.decode("utf-8", "surrogateescape"), start, size)
            told = {}
        position = start + -(-size // BLOCK) * BLOCK


def _parsed(path: str, block: bytes, position: int) -> Header:
    """Return what a header says. Raises DataError for a block that is none, by its sum of bytes."""
    try:
        field = block[148:156]  # the sum of all bytes, in which those of the field itself count as spaces
        expected = _number(field) - 8 * 0x20 + sum(field)
        if zlib.adler32(block) & 0xFFFF != (1 + expected) % ADLER:  # a tenth of the time of sum(block)
            raise ValueError
        name, prefix = block[:100].split(b"\0")[0], block[345:500].split(b"\0")[0]
        if prefix and block[257:263] == b"ustar\0":
            name = prefix + b"/" + name
        return Header(block[156:157], name, _number(block[124:136]))
    except ValueError:
        pass
    what = "is no tar archive" if position == 0 else "is damaged"
    raise DataError(f"{path} {what}: no header at byte {position:,}; fetch or write it again")


def _number(field: bytes) -> int:
    """Return a number of a header: octal digits, or with the first bit set 256 to each byte. Raises ValueError."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:])
    return int(field.split(b"\0")[0].strip() or b"0", 8)


def _content(path: str, descriptor: int, start: int, size: int) -> bytes:
    if size > LARGEST_HEADER:
        raise DataError(f"{path} is damaged: a header of {size:,} bytes at byte {start:,}; write it again")
    return os.pread(descriptor, size, start)


def _records(path: str, content: bytes, position: int) -> dict[bytes, bytes]:
    """Return the records of a pax header, by keyword."""
    found, place = {}, 0
    while match := RECORD.match(content, place):
        end = place + int(match[1])
        if not place < end <= len(content):
            break
        found[match[2]] = content[match.end() : end - 1]
        place = end
    if content[place:].strip(b"\0") or not found.get(b"size", b"0").isdigit():
        raise DataError(f"{path} is damaged: a pax header that makes no sense at byte {position:,}; write it again")
    return found


def _check_rest(path: str, descriptor: int, position: int, length: int) -> None:
    """Raise DataError where data follow the mark of the end: they would never be read."""
    while position < length:
        rest = os.pread(descriptor, 1 << 20, position)
        if any(rest):
            raise DataError(
                f"{path} goes on after the mark of its end at byte {position:,}, as archives do that were put one "
                "after the other; unpack them and write one, or name each as a shard of its own"
            )
        position += len(rest) or length


def _cut_off(path: str, position: int, reason: str) -> DataError:
    return DataError(f"{path} is cut off at byte {position:,}: {reason}; fetch or write it again")
