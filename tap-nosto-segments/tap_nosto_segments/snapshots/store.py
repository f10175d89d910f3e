"""The folder of snapshots: what each export contained, as Parquet sorted by address.

A snapshot is two files, `SEQUENCE-TOKEN.parquet` and `SEQUENCE-TOKEN.json`. The manifest is written last: without it a
snapshot does not exist. The sequence number only grows within a folder, so the order never depends on a clock.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import logging
import os
import posixpath
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, NoReturn

import msgspec
from fsspec.implementations.local import LocalFileSystem

from tap_nosto_segments.errors import OUT_OF_SPACE_ERRNOS, SnapshotError, storage_error
from tap_nosto_segments.folders import create_private_folder, locate, open_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import fsspec


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a snapshot.

    Attributes:
        id: the snapshot's name, as bookmarks hold it.
        sequence: position in the order of the folder's snapshots.
        exported_at: when the export was made, or fetched if Nosto does not send the time.
        export_digest: SHA-256 of the export, hexadecimal.
        parquet_digest: SHA-256 of the Parquet file, hexadecimal.
        etag: the server's ETag.
        last_modified: the server's Last-Modified.
        identifier: the key that held the segment names.
        include: patterns of the chosen segments.
        exclude: patterns of the excluded segments.
        lines: lines of the export.
        invalid: malformed lines.
        duplicates: lines whose address an earlier line had already.
        contacts: distinct addresses.
        counts: segment name -> number of contacts, for every segment of the export, chosen or not.
        catalogue: ID -> name of Nosto's segments; empty if the catalogue was not read.
        chosen: the chosen segments among all that were known to exist, including those without contacts.
        exact: the patterns with brackets that were the name of a segment.
        maps: digest of the stream maps with which the contacts were emitted; empty without maps, None if no contacts were emitted.
        is_complete: whether no contact is missing because its line was malformed.
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
    duplicates: int = 0
    contacts: int
    counts: dict[str, int]
    catalogue: dict[str, str]
    chosen: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    maps: str | None = ""
    is_complete: bool = True

    @property
    def segment_names(self) -> set[str]:
        """Every segment that was known to exist."""
        return {*self.counts, *self.catalogue.values(), *self.chosen, *self.exact}

    @property
    def timestamp(self) -> str:
        """When the export was made: ISO 8601 in UTC, to the second."""
        return self.exported_at.astimezone(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


try:
    import fcntl
except ImportError:  # Windows
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

LOGGER = logging.getLogger("tap-nosto-segments")
CHUNK_BYTES = 1 << 20
PARQUET = re.compile(r"[0-9]{6,}-[0-9a-f]{16}\.parquet")
PART = re.compile(r"\.[0-9]{6,}-[0-9a-f]{16}\.(parquet|json)\.part")
# far longer than an upload takes
MAX_WRITING_TIME = datetime.timedelta(days=1)


class SnapshotStore:
    """A folder of snapshots, in any fsspec file system. `open_store` opens one.

    Args:
        files: the file system.
        root: the folder.
        manifests: the snapshots in the folder.
    """

    def __init__(self, files: fsspec.AbstractFileSystem, root: str, manifests: Iterable[Manifest]) -> None:
        self._files = files
        self._root = root
        self._manifests = {manifest.id: manifest for manifest in manifests}

    def newest(self) -> Manifest | None:
        """Return the snapshot that was written last."""
        return max(self._manifests.values(), key=lambda manifest: manifest.sequence, default=None)

    def get(self, snapshot_id: str | None) -> Manifest | None:
        """Return a snapshot by its ID; None if there is no such snapshot."""
        return self._manifests.get(snapshot_id) if snapshot_id is not None else None

    def base_of(self, bookmarks: Iterable[str | None]) -> Manifest | None:
        """Return the latest of the snapshots in bookmarks; without any, the newest snapshot."""
        named = [manifest for manifest in map(self.get, bookmarks) if manifest is not None]
        return max(named, key=lambda manifest: manifest.sequence) if named else self.newest()

    def __len__(self) -> int:
        """Return the number of snapshots."""
        return len(self._manifests)

    def newer_than(self, manifest: Manifest) -> list[Manifest]:
        """Return the snapshots written after another one, oldest first."""
        later = [other for other in self._manifests.values() if other.sequence > manifest.sequence]
        return sorted(later, key=lambda other: other.sequence)

    def add(self, parquet: Path, describe: Callable[[str, int, str], Manifest]) -> Manifest:
        """Store a Parquet file as a new snapshot.

        Args:
            parquet: the file.
            describe: returns the manifest for an ID, a sequence number and the file's SHA-256.

        Raises:
            SnapshotError: the snapshot cannot be written; it then does not exist.
        """
        newest = self.newest()
        sequence = newest.sequence + 1 if newest else 1
        # The token makes an ID unique even if the folder is lost and the sequence starts again: a bookmark must never refer to
        # another snapshot than the one that was emitted.
        manifest = describe(f"{sequence:06d}-{secrets.token_hex(8)}", sequence, file_digest(parquet))
        try:
            description = parquet.with_suffix(".json")
            description.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
            with contextlib.ExitStack() as stack:
                # until the manifest is there, a lock keeps another run from deleting the file as an orphan
                self._upload(parquet, f"{manifest.id}.parquet", stack)
                self._upload(description, f"{manifest.id}.json", stack)
        except Exception as error:  # noqa: BLE001 - each file system raises its own
            _fail("cannot be written", error)
        self._manifests[manifest.id] = manifest
        return manifest

    def fetch(self, manifest: Manifest, folder: Path) -> Path | None:
        """Copy a snapshot's Parquet file into a working folder; return None if it is missing or damaged.

        Raises:
            SnapshotError: the file cannot be read, or the working folder has no space for it.
        """
        local = folder / f"{manifest.id}.parquet"
        try:
            self._files.get_file(self._path(local.name), str(local))
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001 - each file system raises its own
            if isinstance(error, OSError) and error.errno in OUT_OF_SPACE_ERRNOS:
                raise storage_error(error, action="compared") from None
            _fail("cannot be read", error)
        return local if file_digest(local) == manifest.parquet_digest else None

    def prune(self, kept: Iterable[Manifest]) -> int:
        """Delete the snapshots that are older than all kept ones; return how many."""
        oldest = min((manifest.sequence for manifest in kept), default=0)
        outdated = [manifest for manifest in self._manifests.values() if manifest.sequence < oldest]
        for manifest in outdated:
            try:
                # the manifest first: a file without one does not exist
                self._files.rm_file(self._path(f"{manifest.id}.json"))
                self._files.rm_file(self._path(f"{manifest.id}.parquet"))
            except FileNotFoundError:
                pass
            except Exception as error:  # noqa: BLE001 - each file system raises its own
                _fail("cannot be cleaned up", error)
            del self._manifests[manifest.id]
        return len(outdated)

    def delete_orphans(self, now: datetime.datetime) -> int:
        """Delete the files that a killed run has left behind, because they hold addresses; return how many.

        A file that another run is writing stays: in a local folder it is locked, and elsewhere it is younger than a day.
        """
        names = self._list_names()
        orphans = [name for name in names if PART.fullmatch(name)]
        orphans += [name for name in names if PARQUET.fullmatch(name) and _manifest_name(name) not in names]
        return sum(self._delete_orphan(name, now) for name in orphans)

    def _delete_orphan(self, name: str, now: datetime.datetime) -> bool:
        path = self._path(name)
        try:
            with contextlib.ExitStack() as stack:
                if not (self._try_lock(path, stack) if self._has_locks else self._is_old(path, now)):
                    return False
                if self._files.exists(self._path(_manifest_name(name))):
                    return False  # another run has completed it meanwhile
                self._files.rm_file(path)
        except FileNotFoundError:
            return False
        except Exception as error:  # noqa: BLE001 - each file system raises its own
            LOGGER.warning(
                "A file that a killed run left in the snapshot folder cannot be deleted (%s): %s", type(error).__name__, name
            )
            return False
        return True

    @property
    def _has_locks(self) -> bool:
        return HAS_LOCKS and isinstance(self._files, LocalFileSystem)

    def _try_lock(self, path: str, stack: contextlib.ExitStack) -> bool:
        file = stack.enter_context(Path(path).open("rb"))  # noqa: SIM115 - the stack closes it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_old(self, path: str, now: datetime.datetime) -> bool:
        try:
            modified_at: datetime.datetime = self._files.modified(path)
            return now - modified_at.astimezone(datetime.UTC) > MAX_WRITING_TIME
        except NotImplementedError:
            return False  # fsspec raises it for file systems that know no modification time: nothing is deleted there

    def _list_names(self) -> set[str]:
        try:
            return set(_list_names(self._files, self._root))
        except Exception as error:  # noqa: BLE001 - each file system raises its own
            _fail("cannot be read", error)

    def _upload(self, local: Path, name: str, stack: contextlib.ExitStack) -> None:
        """Copy a file into the folder; in a local folder, it stays locked until the stack ends."""
        if not isinstance(self._files, LocalFileSystem):
            self._files.put_file(str(local), self._path(name))
            return
        part = Path(self._path(f".{name}.part"))
        target = stack.enter_context(_create_locked(part))
        with local.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
        if not HAS_LOCKS:
            target.close()  # Windows does not rename open files
        part.replace(self._path(name))

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name)


def open_store(uri: str, *, is_read_only: bool = False) -> SnapshotStore:
    """Open a folder of snapshots, and create it if it is missing.

    Args:
        uri: the folder, as a path or any fsspec URL.
        is_read_only: whether to change nothing; a missing folder then counts as empty.

    Raises:
        SnapshotError: the folder cannot be used.
    """
    try:
        files, root = locate(uri)
        if not is_read_only:
            _prepare_folder(files, root)
        names = _list_names(files, root)
    except Exception as error:  # noqa: BLE001 - each file system raises its own
        _fail("cannot be opened", error)
    manifests = [_read_manifest(files, posixpath.join(root, name)) for name in names if name.endswith(".json")]
    return SnapshotStore(files, root, [manifest for manifest in manifests if manifest is not None])


def _prepare_folder(files: fsspec.AbstractFileSystem, root: str) -> None:
    if isinstance(files, LocalFileSystem):
        create_private_folder(Path(root))
    else:
        files.makedirs(root, exist_ok=True)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _list_names(files: fsspec.AbstractFileSystem, root: str) -> list[str]:
    if isinstance(files, LocalFileSystem) and files.isfile(root):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    try:
        return [posixpath.basename(path) for path in files.ls(root, detail=False, refresh=True)]
    except FileNotFoundError:
        return []  # object stores have no empty folders


def _read_manifest(files: fsspec.AbstractFileSystem, path: str) -> Manifest | None:
    """Read a manifest; return None if it is missing or damaged: the snapshot then does not exist."""
    try:
        return msgspec.json.decode(files.cat_file(path), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, FileNotFoundError):
        return None
    except Exception as error:  # noqa: BLE001 - each file system raises its own
        _fail("cannot be read", error)


def _fail(problem: str, error: Exception) -> NoReturn:
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        msg = (
            f"The snapshot folder (snapshot_uri) {problem}: a file stands where it, or a folder above it, should be. Nothing was emitted. "
            "Move the file, or choose another folder."
        )
        raise SnapshotError(msg) from None
    msg = (
        f"The snapshot folder (snapshot_uri) {problem} ({type(error).__name__}): without it the tap cannot determine what changed, so "
        "nothing was emitted. Check that it exists, its permissions and its free space."
    )
    raise SnapshotError(msg) from None


def _create_locked(path: Path) -> BinaryIO:
    """Create a file that only its owner can read, and lock it."""
    while True:
        file = open(path, "wb", opener=open_private)  # noqa: SIM115 - the caller closes it; only open takes an opener
        if not HAS_LOCKS:
            return file
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # another run has deleted it before it was locked


def _manifest_name(parquet: str) -> str:
    return f"{parquet.removesuffix('.parquet')}.json"
