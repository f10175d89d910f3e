"""Opens the files of BATCH messages. The input names them, so only regular files below the configured root are read."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import fsspec

from target_dotdigital.errors import StreamError
from target_dotdigital.texts import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_LINE_BYTES = 1 << 20
COMPRESSIONS = frozenset({None, "none", "gzip"})
CHECK_TAP = "Nothing was written, and the bookmark stays. Check the tap, or remove batch_config from its settings."


@dataclass(frozen=True, slots=True)
class BatchFile:
    """A file of a BATCH message.

    Args:
        url: where it is, as the message says.
        root: where files may be: a folder, or a URL of fsspec such as s3://bucket/folder.
        is_gzip: whether it is compressed.
    """

    url: str
    root: str
    is_gzip: bool

    def lines(self) -> Iterator[bytes]:
        """Yield the lines, which are not decoded yet.

        Raises:
            StreamError: the file may not be read, cannot be read, or is damaged.
        """
        number = 0
        try:
            with self._open() as file, gzip.GzipFile(fileobj=file) if self.is_gzip else file as source:
                while line := source.readline(MAX_LINE_BYTES + 1):
                    number += 1
                    if len(line) > MAX_LINE_BYTES:
                        raise unusable(self, f"has a line of more than {MAX_LINE_BYTES:,} bytes (line {number})")
                    yield line
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise unusable(self, f"is damaged or cut off after line {number}") from None
        except FileNotFoundError:
            raise unusable(self, "does not exist") from None
        except (OSError, ImportError, ValueError) as error:
            raise unusable(self, f"cannot be read ({type(error).__name__})") from None
        if number == 0:
            raise unusable(self, "is empty")

    def _open(self) -> IO[bytes]:
        root = _local(self.root)
        if root is not None:
            path = _local(self.url)
            # links are followed before the two are compared
            path = None if path is None else path.resolve(strict=True)
            if path is None or not path.is_relative_to(root.resolve()):
                raise self._outside()
            if not path.is_file():
                raise unusable(self, "is no regular file")
            return path.open("rb")
        scheme, place = _split(self.root)
        if _split(self.url)[0] != scheme or not _is_below(_split(self.url)[1], place):
            raise self._outside()
        file: IO[bytes] = fsspec.open(self.url, "rb").open()
        return file

    def _outside(self) -> StreamError:
        return unusable(self, "is not below storage.root of this target's batch_config, so it was not read")


def unusable(file: BatchFile, what: str) -> StreamError:
    """Return the error about a file.

    Args:
        file: the file.
        what: what is wrong, as the end of a sentence.
    """
    return StreamError(f"The file {shown(PurePosixPath(file.url).name)!r} of a BATCH message {what}. {CHECK_TAP}")


def batch_files(message: Mapping[str, Any], config: Mapping[str, Any] | None) -> list[BatchFile]:
    """Return the files of a BATCH message.

    Args:
        message: the message; its shape is not checked yet.
        config: the setting batch_config.

    Raises:
        StreamError: BATCH messages are not allowed, or this one cannot be processed.
    """
    root = ((config or {}).get("storage") or {}).get("root")
    if not root:
        msg = (
            "The input has BATCH messages, which name files to read, and batch_config does not say where such files may be, so nothing "
            "was written. Set storage.root in this target's batch_config to the folder of the tap's, or remove batch_config from the "
            "tap's settings."
        )
        raise StreamError(msg)
    encoding, manifest = message.get("encoding"), message.get("manifest")
    known = isinstance(encoding, dict) and encoding.get("format") == "jsonl" and _is_known(encoding.get("compression"))
    if not known or not isinstance(encoding, dict):
        msg = f"A BATCH message has another encoding than jsonl, plain or with gzip. {CHECK_TAP}"
        raise StreamError(msg)
    if not isinstance(manifest, list) or not all(isinstance(url, str) for url in manifest):
        msg = f"A BATCH message has a manifest that is no list of files. {CHECK_TAP}"
        raise StreamError(msg)
    urls: Sequence[str] = manifest
    return [BatchFile(url, root, encoding.get("compression") == "gzip") for url in urls]


def _is_known(compression: object) -> bool:
    return compression is None or (isinstance(compression, str) and compression in COMPRESSIONS)


def _local(url: str) -> Path | None:
    """Return the path of a local file or folder; None for any other URL."""
    if "://" not in url:
        return Path(url)
    parts = urlsplit(url)
    return Path(unquote(parts.netloc + parts.path)) if parts.scheme == "file" else None


def _split(url: str) -> tuple[str, PurePosixPath]:
    scheme, _, rest = url.partition("://")
    return scheme.lower(), PurePosixPath(rest)


def _is_below(path: PurePosixPath, root: PurePosixPath) -> bool:
    return ".." not in path.parts and root.parts == path.parts[: len(root.parts)] and len(path.parts) > len(root.parts)
