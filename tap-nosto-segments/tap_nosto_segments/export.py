"""Fetches the Segment Export, spools it to disk and proves it whole, before anybody reads a line of it."""

from __future__ import annotations

import datetime
import hashlib
import zlib
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import fsspec
import msgspec

from tap_nosto_segments.addresses import is_http, require_secure
from tap_nosto_segments.database import is_json_object
from tap_nosto_segments.errors import ExportDamagedError, ExportUnavailableError, TapError, no_space
from tap_nosto_segments.nosto import Credential, Nosto, request_id

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable
    from pathlib import Path

    import requests

    from tap_nosto_segments.settings import Settings

CHUNK = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
LONGEST_LINE = 1 << 24
NOT_READY = frozenset({202, 204, 404, 425})
REFUSED = frozenset({401, 403})
LARGEST_LINK_ANSWER = 1 << 20
EARLIEST_YEAR, LATEST_YEAR = 1970, 9000


@dataclass(frozen=True, slots=True)
class Validators:
    """What the server says to recognise a file by; sent back to ask for a newer one only."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        """Give the headers of a conditional request."""
        headers = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in headers.items() if value}


@dataclass(frozen=True, slots=True)
class Export:
    """A whole export on disk, decompressed.

    Args:
        path: the file.
        digest: SHA-256 of its content, hexadecimal.
        size: its bytes.
        made: when Nosto made it, where that is known.
        validators: to recognise it by.
    """

    path: Path
    digest: str
    size: int
    made: datetime.datetime | None
    validators: Validators


def fetch(settings: Settings, folder: Path, known: Validators, nosto: Nosto) -> Export | None:
    """Fetch the export into a folder; None means that it is the one already known.

    Raises:
        ExportUnavailableError: it cannot be had.
        ExportDamagedError: it arrived, but not whole.
        SettingsError: an address is not secure.
    """
    path = folder / "export.jsonl"
    if is_http(settings.export_url):
        return nosto.repeat("Fetching the Segment Export", lambda: _download(settings, path, known, nosto))
    return _read(settings.export_url, path)


def _download(settings: Settings, path: Path, known: Validators, nosto: Nosto) -> Export | None:
    url = settings.export_url
    credential = Credential(url, settings.export_auth, settings.export_auth_name, settings.export_token)
    if settings.export_link_pointer is not None:
        with nosto.get(url, credential, {}) as answer:
            _require_file(answer)
            url = _link(answer, settings.export_link_pointer)
        require_secure(url, "The link to the export that Nosto gives")
    with nosto.get(url, credential, {"Accept-Encoding": "gzip", **known.headers()}) as answer:
        if answer.status_code == 304:  # noqa: PLR2004 - Not Modified
            return None
        _require_file(answer)
        validators = Validators(answer.headers.get("ETag"), answer.headers.get("Last-Modified"))
        # undecoded, so that Content-Length can be held against what arrived: urllib3 raises where fewer bytes came
        digest, size = _spool(answer.raw.stream(CHUNK, decode_content=False), path)
    return Export(path, digest, size, _http_date(validators.last_modified), validators)


def _read(url: str, path: Path) -> Export:
    try:
        file_system, location = fsspec.core.url_to_fs(url)
        made = _modified(file_system, location)
        with file_system.open(location, "rb") as file:
            digest, size = _spool(iter(lambda: file.read(CHUNK), b""), path)
    except TapError:
        raise
    except Exception as error:  # noqa: BLE001 - each file system raises its own
        msg = (
            f"The export file cannot be read ({type(error).__name__}): export_url names no readable file. Check the path, its "
            "rights and, for object storage, that the extra of this package is installed."
        )
        raise ExportUnavailableError(msg) from None
    return Export(path, digest, size, made, Validators())


def _require_file(answer: requests.Response) -> None:
    status = answer.status_code
    if status == 200:  # noqa: PLR2004 - OK
        return
    if status in REFUSED:
        msg = (
            f"Nosto refused the export token (status {status}): nothing was fetched. Check export_token and export_auth against "
            "what Nosto's admin shows under Settings, Integrations, Segment Export."
        )
    elif status in NOT_READY:
        msg = (
            f"There is no export file yet (status {status}): Nosto makes the first one within a day after the Segment Export was "
            "enabled. Run again later; if it was enabled longer ago, check export_url."
        )
    else:
        number = request_id(answer)
        msg = (
            f"Nosto answered with status {status}{f' (request {number})' if number else ''} instead of the export: nothing was "
            "fetched. Check export_url."
        )
    raise ExportUnavailableError(msg)


def _link(answer: requests.Response, pointer: str) -> str:
    """Follow a JSON pointer (RFC 6901) to the link in an answer."""
    problem = "the answer is no JSON"
    try:
        value = msgspec.json.decode(answer.raw.read(LARGEST_LINK_ANSWER, decode_content=True))
        problem = "nothing stands there"
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            value = value[int(key)] if isinstance(value, list) else value[key]
        if isinstance(value, str) and is_http(value):
            return value
        problem = "what stands there is no address"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError, ValueError):
        pass
    msg = f"Nosto's answer has no link to the export at {pointer!r}: {problem}. Check export_link_pointer."
    raise ExportDamagedError(msg)


def _spool(chunks: Iterable[bytes], path: Path) -> tuple[str, int]:
    """Write chunks to a file, decompressed if they are gzip, and prove the file whole: digest and size."""
    digest, size, decoder = hashlib.sha256(), 0, None
    # without a buffer of its own, so that a disk that is full is seen where it is written to
    with path.open("wb", buffering=0) as file:
        for chunk in _joined(chunks):
            if decoder is None:
                decoder = _Gzip() if chunk.startswith(GZIP_MAGIC) else _Plain()
            text = decoder.decode(chunk)
            if size == 0:
                text = text.removeprefix(BOM)
            _write(file, text)
            digest.update(text)
            size += len(text)
    if decoder is not None:
        decoder.finish()
    _require_last_line(path, size)
    return digest.hexdigest(), size


def _write(file: io.FileIO, text: bytes) -> None:
    rest = memoryview(text)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        raise no_space(error, what="stored") from None


def _joined(chunks: Iterable[bytes]) -> Iterable[bytes]:
    """Make the first chunk long enough to tell gzip and a byte order mark by."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(BOM):
            yield head
            head = b""
    if head:
        yield head


class _Plain:
    def decode(self, chunk: bytes) -> bytes:
        return chunk

    def finish(self) -> None:
        """Plain text carries no proof of its own: length and last line have to do."""


class _Gzip:
    """Gzip, of several members too; its checksums are proven by zlib as it goes."""

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
                "The export's gzip data is damaged: the file did not arrive as Nosto made it, so nothing was read from it. Run "
                "again; if it stays so, tell Nosto."
            )
            raise ExportDamagedError(msg) from None
        return text

    def finish(self) -> None:
        if not self._inflater.eof:
            msg = (
                "The export's gzip data ends too early: the file was cut on its way, so nothing was read from it. Run again; if "
                "it stays so, tell Nosto."
            )
            raise ExportDamagedError(msg)


def _require_last_line(path: Path, size: int) -> None:
    """Refuse a file that ends in the middle of a line."""
    if size == 0:
        return
    with path.open("rb") as file:
        file.seek(max(0, size - LONGEST_LINE))
        tail = file.read()
    if tail.endswith(b"\n"):
        return
    if not is_json_object(tail[tail.rfind(b"\n") + 1 :].strip() or b"{}"):
        msg = (
            "The export ends in the middle of a line: the file was cut on its way, so nothing was read from it. Run again; if it "
            "stays so, tell Nosto."
        )
        raise ExportDamagedError(msg)


def _modified(files: fsspec.AbstractFileSystem, location: str) -> datetime.datetime | None:
    try:
        return _plausible(files.modified(location).astimezone(datetime.UTC))
    except (NotImplementedError, OverflowError, ValueError):
        return None


def _http_date(value: str | None) -> datetime.datetime | None:
    try:
        made = parsedate_to_datetime(value or "")
        # without an offset it is UTC (RFC 9110 5.6.7), not the time zone of this machine
        return _plausible(made.astimezone(datetime.UTC) if made.tzinfo else made.replace(tzinfo=datetime.UTC))
    except (ValueError, TypeError, OverflowError):
        return None


def _plausible(made: datetime.datetime) -> datetime.datetime | None:
    """Return a time unless no clock can have shown it; then the age of the export is unknown."""
    return made if EARLIEST_YEAR <= made.year < LATEST_YEAR else None
