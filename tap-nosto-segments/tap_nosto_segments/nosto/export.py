"""Fetch the Segment Export, from Nosto or from a file, into a local file."""

from __future__ import annotations

import datetime
import hashlib
import zlib
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec

from tap_nosto_segments.errors import ExportDamagedError, ExportUnavailableError, TapError, storage_error
from tap_nosto_segments.folders import locate
from tap_nosto_segments.nosto.client import NostoClient, is_http, origin_of, request_id, require_secure

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import fsspec
    import requests

    from tap_nosto_segments.nosto.client import Credential


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


NOT_READY_STATUSES = frozenset({HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND, HTTPStatus.TOO_EARLY})
REJECTED_TOKEN_STATUSES = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
# object storages refuse an expired link with 400, 401, 403 or 410
REFUSED_LINK_STATUSES = REJECTED_TOKEN_STATUSES | {HTTPStatus.BAD_REQUEST, HTTPStatus.GONE}
EXPORT_NAME = "export.jsonl"
MAX_LINK_RESPONSE_BYTES = 1 << 20
MIN_PLAUSIBLE_YEAR, MAX_PLAUSIBLE_YEAR = 1970, 8999


@dataclass(frozen=True, slots=True)
class ExportSource:
    """Where the export is, and how to get it.

    Args:
        url: URL of the export, or of a file in any fsspec file system.
        credential: the token for it.
        link_pointer: JSON pointer to the link, if the URL answers with JSON that links to the file.
    """

    url: str
    credential: Credential
    link_pointer: str | None


@dataclass(frozen=True, slots=True)
class Validators:
    """The response headers that identify a version of the file, for conditional requests."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers of a conditional request."""
        headers = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in headers.items() if value}


@dataclass(frozen=True, slots=True)
class Export:
    """An export on disk, decompressed.

    Args:
        path: the file.
        digest: SHA-256 of its content, hexadecimal.
        size: its size in bytes.
        received: bytes received, before they were decompressed.
        is_gzip: whether they were gzip.
        made_at: when Nosto made it; None if unknown.
        validators: validators for the next conditional request.
        content_encoding: Content-Encoding of the response, in lower case; empty if missing.
    """

    path: Path
    digest: str
    size: int
    received: int
    is_gzip: bool
    made_at: datetime.datetime | None
    validators: Validators
    content_encoding: str = ""


def fetch_export(client: NostoClient, source: ExportSource, folder: Path, known: Validators) -> Export | None:
    """Fetch the export into a folder; return None if it is still the known one.

    Raises:
        ExportUnavailableError: the export cannot be fetched.
        ExportDamagedError: the export arrived incomplete.
        SettingsError: an address is not secure.
    """
    path = folder / EXPORT_NAME
    if is_http(source.url):
        return client.with_retries("Fetching the Segment Export", lambda: _download(client, source, path, known))
    return _copy(source.url, path)


def _download(client: NostoClient, source: ExportSource, path: Path, known: Validators) -> Export | None:
    with _request_file(client, source, known) as response:
        validators = Validators(response.headers.get("ETag"), response.headers.get("Last-Modified"))
        if response.status_code != HTTPStatus.NOT_MODIFIED:
            _require_file(response, source, is_link=source.link_pointer is not None)
            # undecoded, so that urllib3 compares the bytes received with Content-Length
            spooled = spool(response.raw.stream(CHUNK_BYTES, decode_content=False), path)
            made_at = parse_http_date(validators.last_modified)
            encoding = response.headers.get("Content-Encoding", "").strip().lower()
            return Export(path, spooled.digest, spooled.size, spooled.received, spooled.is_gzip, made_at, validators, encoding)
    if known.last_modified and validators.last_modified not in {None, known.last_modified}:
        # the ETag says "unchanged" and the date says "changed": download it, and let the digest decide
        return _download(client, source, path, Validators())
    return None


def _request_file(client: NostoClient, source: ExportSource, known: Validators) -> requests.Response:
    url = source.url
    if source.link_pointer is not None:
        with client.get(url, source.credential, {}) as response:
            _require_file(response, source, is_link=False)
            url = _read_link(response, source.link_pointer)
        require_secure(url, "The link to the export that Nosto returns")
    return client.get(url, source.credential, {"Accept-Encoding": "gzip", **known.headers()})


def _copy(url: str, path: Path) -> Export:
    try:
        file_system, location = locate(url)
        made_at = _modified_at(file_system, location)
        with file_system.open(location, "rb") as file:
            spooled = spool(iter(lambda: file.read(CHUNK_BYTES), b""), path)
    except TapError:
        raise
    except Exception as error:  # noqa: BLE001 - each file system raises its own
        msg = (
            f"The export file cannot be read ({type(error).__name__}): export_url names no readable file. Check the path, its "
            "permissions and, for object storage, that the matching extra of this package is installed."
        )
        raise ExportUnavailableError(msg) from None
    return Export(path, spooled.digest, spooled.size, spooled.received, spooled.is_gzip, made_at, Validators())


def _require_file(response: requests.Response, source: ExportSource, *, is_link: bool) -> None:
    """Reject a response that is not the file.

    Args:
        response: the response.
        source: where the export is.
        is_link: whether Nosto's answer held a link to it.

    Raises:
        ExportUnavailableError: the response is not the file.
    """
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        msg = (
            f"The proxy asks for a password (status {status}): nothing was fetched. Put it into the address in the variable HTTPS_PROXY or "
            "HTTP_PROXY."
        )
    elif status in REFUSED_LINK_STATUSES and (is_link or _is_elsewhere(response, source)):
        msg = (
            f"The link to the file that Nosto answered with was refused by {origin_of(response.url)} (status {status}): it is wrong, or "
            "has expired, as signed links do. Nothing was fetched. Run again, and check the clock of this machine."
        )
    elif status in REJECTED_TOKEN_STATUSES and source.credential.method == "none":
        msg = (
            f"The export address was refused (status {status}), and no token was sent, because export_auth is none: nothing was fetched. "
            "If export_url is a signed link, it has expired, so copy the current one; otherwise set export_auth and export_token."
        )
    elif status in REJECTED_TOKEN_STATUSES:
        msg = (
            f"Nosto refused the export token{', or the link that it redirected to' if response.history else ''} (status {status}): nothing "
            "was fetched. Compare export_token and export_auth with "
            "what Nosto's admin shows under Settings, Integrations, Segment Export."
        )
    elif status in NOT_READY_STATUSES:
        msg = (
            f"There is no export file yet (status {status}): Nosto makes the first one within a day after the Segment Export was "
            "enabled. Run again later; if it was enabled longer ago, check export_url."
        )
    else:
        identifier = request_id(response)
        msg = (
            f"Nosto answered with status {status}{f' (request {identifier})' if identifier else ''} instead of the export: nothing "
            "was fetched. Check export_url."
        )
    raise ExportUnavailableError(msg)


def _is_elsewhere(response: requests.Response, source: ExportSource) -> bool:
    """Return whether redirects led to another origin, which gets no token."""
    return bool(response.history) and origin_of(response.url) != origin_of(source.url)


def _read_link(response: requests.Response, pointer: str) -> str:
    """Return the link that a JSON pointer (RFC 6901) finds in a response."""
    problem = "the response is not JSON"
    try:
        value = msgspec.json.decode(response.raw.read(MAX_LINK_RESPONSE_BYTES, decode_content=True))
        problem = "the pointer leads nowhere"
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            value = value[int(key)] if isinstance(value, list) else value[key]
        if isinstance(value, str) and is_http(value):
            return value
        problem = "the value there is not an http or https address"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError, ValueError):
        pass
    msg = f"Nosto's response has no link to the export at {pointer!r}: {problem}. Check export_link_pointer."
    raise ExportDamagedError(msg)


def _modified_at(files: fsspec.AbstractFileSystem, location: str) -> datetime.datetime | None:
    try:
        return _plausible(files.modified(location).astimezone(datetime.UTC))
    except NotImplementedError:
        return None  # fsspec raises it for file systems that know no modification time
    except (OverflowError, ValueError):
        return None  # a time that Python cannot represent


def parse_http_date(value: str | None) -> datetime.datetime | None:
    """Return the time of an HTTP date in UTC; None if it is missing, invalid or absurd."""
    try:
        time = parsedate_to_datetime(value or "")
        # without an offset the date is in UTC (RFC 9110 5.6.7), not in this machine's time zone
        return _plausible(time.astimezone(datetime.UTC) if time.tzinfo else time.replace(tzinfo=datetime.UTC))
    except (ValueError, TypeError, OverflowError):
        return None


def _plausible(time: datetime.datetime) -> datetime.datetime | None:
    """Return a time, or None if it is absurd: the age of the export is then unknown."""
    return time if MIN_PLAUSIBLE_YEAR <= time.year <= MAX_PLAUSIBLE_YEAR else None
