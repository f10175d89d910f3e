"""Files of records for BATCH messages.

They hold addresses, so they are private, and each run first deletes those of the last one: by then the target has read them.
"""

from __future__ import annotations

import gzip
import hashlib
import posixpath
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import unquote, urlsplit

import fsspec
import msgspec
from fsspec.implementations.local import LocalFileSystem

from tap_nosto_segments.errors import SnapshotError
from tap_nosto_segments.folders import create_private_folder, open_private

if TYPE_CHECKING:
    from collections.abc import Sequence

# the default of the SDK, whose targets read a whole file into memory
MAX_RECORDS_PER_FILE = 10_000
# the fastest: the files are read once, and deleted by the next run
GZIP_LEVEL = 1


class Encoding(msgspec.Struct, frozen=True, kw_only=True):
    """How the files are written. `CONFIG` lists the allowed values."""

    format: str
    compression: str | None = None


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """Where the files are written: a folder, and the beginning of their names."""

    root: str
    prefix: str | None = None


class BatchConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The setting `batch_config`, in the form of the SDK."""

    encoding: Encoding
    storage: Storage


class BatchFolder:
    """The folder of batch files, of which this tap owns those that begin with `prefix`. `open_batch_folder` opens one.

    Args:
        files: the file system.
        root: the folder, as the file system names it.
        url: the folder, as BATCH messages name it.
        prefix: the beginning of the names of this tap's files.
        is_gzip: whether the files are compressed.
    """

    def __init__(self, files: fsspec.AbstractFileSystem, root: str, url: str, *, prefix: str, is_gzip: bool) -> None:
        self._files = files
        self._root = root
        self._url = url
        self._prefix = prefix
        self._is_gzip = is_gzip
        # a message of an earlier run must never name a file of this one
        self._token = secrets.token_hex(8)
        self.written = 0

    @property
    def encoding(self) -> dict[str, str]:
        """The encoding, as BATCH messages name it."""
        return {"format": "jsonl", "compression": "gzip" if self._is_gzip else "none"}

    def write(self, records: Sequence[str]) -> str:
        """Write a file, and return its URL.

        Args:
            records: at least one record, as JSON objects.

        Raises:
            SnapshotError: the file cannot be written.
        """
        content = ("\n".join(records) + "\n").encode()
        name = f"{self._prefix}{self._token}-{self.written + 1:06d}.jsonl"
        if self._is_gzip:
            name += ".gz"
            content = gzip.compress(content, GZIP_LEVEL, mtime=0)
        try:
            self._put(name, content)
        except Exception as error:  # noqa: BLE001 - each file system raises its own
            msg = (
                f"A batch file cannot be written ({type(error).__name__}): the output is incomplete, and the bookmark stays. Check the "
                "permissions and the free space of the folder (storage.root of batch_config)."
            )
            raise SnapshotError(msg) from None
        self.written += 1
        return f"{self._url}/{name}"

    def prepare(self) -> int:
        """Create the folder, delete the files of earlier runs, prove that a file can be written; return how many were deleted."""
        if isinstance(self._files, LocalFileSystem):
            create_private_folder(Path(self._root))
        own = re.compile(rf"{re.escape(self._prefix)}[0-9a-f]{{16}}-[0-9a-z]+\.jsonl(\.gz)?")
        names = [name for name in self._list_names() if own.fullmatch(name)]
        for name in names:
            self._files.rm_file(self._path(name))
        probe = f"{self._prefix}{self._token}-probe.jsonl"
        self._put(probe, b"\n")
        self._files.rm_file(self._path(probe))
        return len(names)

    def _put(self, name: str, content: bytes) -> None:
        if isinstance(self._files, LocalFileSystem):
            # unbuffered, so that a full disk is noticed by the write itself
            with open(self._path(name), "xb", buffering=0, opener=open_private) as file:
                rest = memoryview(content)
                while rest:
                    rest = rest[file.write(rest) :]
        else:
            self._files.pipe_file(self._path(name), content)

    def _list_names(self) -> list[str]:
        try:
            return [posixpath.basename(path) for path in self._files.ls(self._root, detail=False, refresh=True)]
        except FileNotFoundError:
            return []  # object stores have no empty folders

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name)


def open_batch_folder(config: BatchConfig, snapshot_uri: str) -> tuple[BatchFolder, int]:
    """Open the folder of batch files, and delete those that earlier runs of this pipeline have left.

    Args:
        config: the setting `batch_config`.
        snapshot_uri: the snapshot folder. Each pipeline has its own, so it tells apart the files of pipelines that share a folder.

    Returns:
        The folder, and the number of deleted files.

    Raises:
        SnapshotError: the folder cannot be used.
    """
    owner = hashlib.sha256(_absolute(snapshot_uri).encode()).hexdigest()[:12]
    prefix = f"{config.storage.prefix or ''}tap-nosto-segments-{owner}-"
    is_gzip = config.encoding.compression == "gzip"
    try:
        path = _local_path(config.storage.root)
        if path is None:
            files, root = fsspec.core.url_to_fs(config.storage.root)
            folder = BatchFolder(files, root, config.storage.root.rstrip("/"), prefix=prefix, is_gzip=is_gzip)
        else:
            folder = BatchFolder(LocalFileSystem(), str(path), path.as_uri().rstrip("/"), prefix=prefix, is_gzip=is_gzip)
        return folder, folder.prepare()
    except Exception as error:  # noqa: BLE001 - each file system raises its own
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    msg = (
        f"The folder for batch files (storage.root of batch_config) cannot be used ({type(error).__name__}), so nothing was fetched "
        "or emitted. Check its address, its permissions and its free space; for object storage, install the extra of this package "
        "(s3, gcs, azure)."
    )
    raise SnapshotError(msg) from None


def _local_path(url: str) -> Path | None:
    """Return the absolute path of a local folder; None for any other URL."""
    if "://" not in url:
        return Path(url).absolute()
    parts = urlsplit(url)
    return Path(unquote(parts.netloc + parts.path)).absolute() if parts.scheme == "file" else None


def _absolute(uri: str) -> str:
    path = _local_path(uri)
    return uri.rstrip("/") if path is None else str(path)
