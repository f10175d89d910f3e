"""Snapshots: what an acknowledged export held, as Parquet sorted by address, each with its manifest.

A snapshot is two files, `SEQUENCE-TOKEN.parquet` and `SEQUENCE-TOKEN.json`. The manifest is written last: without it a
snapshot does not exist. The sequence number only grows within a folder, so order never depends on a clock.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import posixpath
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import fsspec
import msgspec
from fsspec.implementations.local import LocalFileSystem

from tap_nosto_segments.errors import NO_SPACE, SnapshotError, no_space

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

CHUNK = 1 << 20


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is of.

    Attributes:
        id: the name of the snapshot, as bookmarks hold it.
        sequence: place in the order of the folder's snapshots.
        exported_at: when the export was made, or fetched where Nosto does not say.
        export_digest: SHA-256 of the export, hexadecimal.
        parquet_digest: SHA-256 of the Parquet file, hexadecimal.
        etag: as the server gave it.
        last_modified: as the server gave it.
        identifier: the key that held the names.
        include: patterns of the chosen segments.
        exclude: patterns of those left out.
        lines: lines of the export.
        invalid: malformed ones.
        doubled: lines for an address that stood there already.
        contacts: distinct addresses.
        counts: contacts of every segment of the export, chosen or not.
        catalogue: id -> name of Nosto's segments; empty where it was not asked for.
        chosen: the chosen ones of all segments that were known to exist, also of those that nobody is in today.
    """

    id: str
    sequence: int
    exported_at: Annotated[datetime.datetime, msgspec.Meta(tz=True)]
    export_digest: str
    parquet_digest: str
    etag: str | None
    last_modified: str | None
    identifier: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    lines: int
    invalid: int
    doubled: int
    contacts: int
    counts: dict[str, int]
    catalogue: dict[str, str]
    chosen: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """Every segment that was known to exist."""
        return {*self.counts, *self.catalogue.values(), *self.chosen}

    @property
    def stamp(self) -> str:
        """When the export was made: ISO 8601 in UTC, to the second."""
        return self.exported_at.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class SnapshotStore:
    """A folder of snapshots, local or at any fsspec address.

    Args:
        uri: the folder.

    Raises:
        SnapshotError: the folder cannot be used.
    """

    def __init__(self, uri: str) -> None:
        """Open the folder, and make it if it is missing."""
        try:
            self._files, self._root = fsspec.core.url_to_fs(uri)
            is_new = not self._files.exists(self._root)
            self._files.makedirs(self._root, exist_ok=True)
            if isinstance(self._files, LocalFileSystem):
                Path(self._root).chmod(0o700)
                if is_new:
                    # often made within a project: addresses of contacts must not get into its repository
                    Path(self._root, ".gitignore").write_text("*\n")
            names = self._names()
        except Exception as error:  # noqa: BLE001 - each file system raises its own
            self._fail("cannot be opened", error)
        self._manifests = {
            manifest.id: manifest for name in names if name.endswith(".json") and (manifest := self._manifest(name)) is not None
        }

    def newest(self) -> Manifest | None:
        """Return the snapshot that was written last."""
        return max(self._manifests.values(), key=lambda manifest: manifest.sequence, default=None)

    def get(self, snapshot_id: str | None) -> Manifest | None:
        """Return a snapshot by its id; None if it is not there."""
        return self._manifests.get(snapshot_id) if snapshot_id is not None else None

    def newer_than(self, manifest: Manifest) -> list[Manifest]:
        """Return the snapshots written after one, oldest first."""
        later = [other for other in self._manifests.values() if other.sequence > manifest.sequence]
        return sorted(later, key=lambda other: other.sequence)

    def add(self, parquet: Path, describe: Callable[[str, int, str], Manifest]) -> Manifest:
        """Store a Parquet file; `describe` makes its manifest from id, sequence and the file's digest.

        Raises:
            SnapshotError: it cannot be written; then it does not exist.
        """
        newest = self.newest()
        sequence = newest.sequence + 1 if newest else 1
        digest = file_digest(parquet)
        # Never twice the same, also where the folder was lost and numbers begin anew: a bookmark must not name another snapshot
        # than the one that was emitted.
        manifest = describe(f"{sequence:06d}-{secrets.token_hex(8)}", sequence, digest)
        try:
            self._put(parquet, f"{manifest.id}.parquet")
            written = parquet.with_suffix(".json")
            written.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
            self._put(written, f"{manifest.id}.json")
        except Exception as error:  # noqa: BLE001 - each file system raises its own
            self._fail("cannot be written", error)
        self._manifests[manifest.id] = manifest
        return manifest

    def fetch(self, manifest: Manifest, folder: Path) -> Path | None:
        """Bring a snapshot's Parquet file into a work folder; None if it is missing or damaged.

        Raises:
            SnapshotError: it cannot be read, or the work folder has no room for it.
        """
        local = folder / f"{manifest.id}.parquet"
        try:
            self._files.get_file(self._path(local.name), str(local))
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - each file system raises its own
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise no_space(error, what="compared") from None
            self._fail("cannot be read", error)
        return local if file_digest(local) == manifest.parquet_digest else None

    def prune(self, kept: Iterable[Manifest]) -> int:
        """Remove the snapshots older than all that are kept; return how many."""
        oldest = min((manifest.sequence for manifest in kept), default=0)
        gone = [manifest for manifest in self._manifests.values() if manifest.sequence < oldest]
        for manifest in gone:
            try:
                # the manifest first: a file without one does not exist
                self._files.rm_file(self._path(f"{manifest.id}.json"))
                self._files.rm_file(self._path(f"{manifest.id}.parquet"))
            except FileNotFoundError:
                pass
            except Exception as error:  # noqa: BLE001 - each file system raises its own
                self._fail("cannot be cleaned", error)
            del self._manifests[manifest.id]
        return len(gone)

    def _names(self) -> list[str]:
        try:
            return [posixpath.basename(path) for path in self._files.ls(self._root, detail=False, refresh=True)]
        except FileNotFoundError:
            return []  # object stores know no empty folders

    def _manifest(self, name: str) -> Manifest | None:
        try:
            return msgspec.json.decode(self._files.cat_file(self._path(name)), type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError, FileNotFoundError):
            return None
        except Exception as error:  # noqa: BLE001 - each file system raises its own
            self._fail("cannot be read", error)

    def _put(self, local: Path, name: str) -> None:
        if isinstance(self._files, LocalFileSystem):
            part = Path(self._path(f".{name}.part"))
            with local.open("rb") as source, open(part, "wb", opener=_private) as target:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            part.replace(self._path(name))
        else:
            self._files.put_file(str(local), self._path(name))

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name)

    def _fail(self, what: str, error: Exception) -> NoReturn:
        msg = (
            f"The snapshot folder (snapshot_uri) {what} ({type(error).__name__}): without it the tap cannot tell what changed, so "
            "nothing was emitted. Check that it exists, its rights and its free space."
        )
        raise SnapshotError(msg) from None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
