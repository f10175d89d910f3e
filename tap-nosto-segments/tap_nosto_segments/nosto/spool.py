"""Write a download to disk, decompress it, and verify its gzip checksum."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_nosto_segments.errors import ExportDamagedError, storage_error

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Iterator
    from pathlib import Path

CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Spooled:
    """A download on disk.

    Args:
        digest: SHA-256 of the decompressed content, hexadecimal.
        size: size of the decompressed content in bytes.
        received: bytes received, before they were decompressed.
        is_gzip: whether they were gzip.
    """

    digest: str
    size: int
    received: int
    is_gzip: bool


def spool(chunks: Iterable[bytes], path: Path) -> Spooled:
    """Write chunks to a file, decompressed if they are gzip.

    Raises:
        ExportDamagedError: the gzip data is damaged or incomplete.
        SnapshotError: the file cannot be written.
    """
    digest, size, received, decoder = hashlib.sha256(), 0, 0, None
    with _open(path) as file:
        for chunk in _with_whole_head(chunks):
            if decoder is None:
                decoder = _GzipDecoder() if chunk.startswith(GZIP_MAGIC) else _PlainDecoder()
            received += len(chunk)
            text = decoder.decode(chunk)
            if size == 0:
                text = text.removeprefix(BYTE_ORDER_MARK)
            _write_all(file, text)
            digest.update(text)
            size += len(text)
    if decoder is not None:
        decoder.finish()
    return Spooled(digest.hexdigest(), size, received, isinstance(decoder, _GzipDecoder))


def _open(path: Path) -> io.FileIO:
    try:
        # unbuffered, so that a full disk is noticed by the write itself
        return path.open("wb", buffering=0)
    except OSError as error:
        raise storage_error(error, action="stored") from None


def _write_all(file: io.FileIO, text: bytes) -> None:
    rest = memoryview(text)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise storage_error(error, action="stored") from None


def _with_whole_head(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Join short chunks until they are long enough to recognise gzip and a byte order mark."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(BYTE_ORDER_MARK):
            yield head
            head = b""
    if head:
        yield head


class _PlainDecoder:
    """Plain text, which has no checksum."""

    def decode(self, chunk: bytes) -> bytes:
        return chunk

    def finish(self) -> None:
        """Do nothing: only the length and the last line show whether plain text is complete."""


class _GzipDecoder:
    """Gzip of one or more members; zlib verifies the checksums."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(wbits=31)

    def decode(self, chunk: bytes) -> bytes:
        text = b""
        try:
            while chunk:
                if self._inflater.eof:
                    self._inflater = zlib.decompressobj(wbits=31)
                text += self._inflater.decompress(chunk)
                chunk = self._inflater.unused_data
        except zlib.error:
            msg = (
                "The export's gzip data is damaged: the file was corrupted in transfer, so it was not used. Run again; if the error "
                "persists, contact Nosto's support."
            )
            raise ExportDamagedError(msg) from None
        return text

    def finish(self) -> None:
        if not self._inflater.eof:
            msg = (
                "The export's gzip data ends too early: the file was truncated in transfer, so it was not used. Run again; if the "
                "error persists, contact Nosto's support."
            )
            raise ExportDamagedError(msg)
