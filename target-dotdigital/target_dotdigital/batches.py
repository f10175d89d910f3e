"""Reads the files of BATCH messages. The input names them, so only files below the configured root are read."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

import fsspec

from target_dotdigital.errors import StreamError
from target_dotdigital.text import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENCODINGS: tuple[dict[str, str | None], ...] = (
    {"format": "jsonl", "compression": None},
    {"format": "jsonl", "compression": "none"},
    {"format": "jsonl", "compression": "gzip"},
)
CHECK_TAP = "Nothing was written, and the bookmark stays. Check the tap, or remove batch_config from its settings."


def batch_error(name: str, what: str) -> StreamError:
    """Return the error about a file.

    Args:
        name: name of the file.
        what: what is wrong, as the end of a sentence.
    """
    return StreamError(f"The file {shown(name)!r} of a BATCH message {what}. {CHECK_TAP}")


def batch_lines(message: Mapping[str, Any], config: Mapping[str, Any] | None) -> Iterator[tuple[str, int, bytes]]:
    """Yield the records of a BATCH message: name of the file, number of the line, and the undecoded line.

    Args:
        message: the message; its shape is not checked yet.
        config: the setting batch_config.

    Raises:
        StreamError: BATCH messages are not allowed, or this one or one of its files cannot be read.
    """
    storage = (config or {}).get("storage") or {}
    if not storage.get("root"):
        msg = (
            "The input has BATCH messages, which name files to read, and batch_config does not say where such files may be, so nothing "
            "was written. Set storage.root in this target's batch_config to the folder of the tap's, or remove batch_config from the "
            "tap's settings."
        )
        raise StreamError(msg)
    encoding, manifest = message.get("encoding"), message.get("manifest")
    if not isinstance(encoding, dict) or {"compression": None, **encoding} not in ENCODINGS:
        msg = f"A BATCH message has another encoding than jsonl, plain or with gzip. {CHECK_TAP}"
        raise StreamError(msg)
    if not isinstance(manifest, list) or not all(isinstance(url, str) and url for url in manifest):
        msg = f"A BATCH message has a manifest that is not a list of file URLs. {CHECK_TAP}"
        raise StreamError(msg)
    for url in manifest:
        name, number = PurePosixPath(url).name, 0
        try:
            with contextlib.ExitStack() as stack:
                lines: IO[Any] = stack.enter_context(_open(url, storage["root"]))
                if encoding.get("compression") == "gzip":
                    lines = stack.enter_context(cast("IO[Any]", gzip.GzipFile(fileobj=lines)))
                for number, line in enumerate(lines, 1):
                    yield name, number, line
        except (OSError, EOFError, zlib.error, ImportError, ValueError) as error:
            raise batch_error(name, f"cannot be read after line {number} ({type(error).__name__})") from None
        if number == 0:
            raise batch_error(name, "is empty")


def _open(url: str, root: str) -> IO[bytes]:
    """Open a file below the root.

    Raises:
        StreamError: it is not below the root.
        OSError: it cannot be opened.
    """
    outside = batch_error(PurePosixPath(url).name, "is not below storage.root of this target's batch_config, so it was not read")
    folder, path = _local(root), _local(url)
    if folder is not None:
        # links are followed before the two are compared
        path = None if path is None else path.resolve(strict=True)
        if path is None or not path.is_relative_to(folder.resolve()):
            raise outside
        if not path.is_file():
            raise batch_error(path.name, "is not a regular file")
        return path.open("rb")
    (scheme, place), (scheme_of_root, place_of_root) = (_split(address) for address in (url, root))
    if scheme != scheme_of_root or ".." in place.parts or not place.is_relative_to(place_of_root) or place == place_of_root:
        raise outside
    file: IO[bytes] = fsspec.open(url, "rb").open()
    return file


def _local(url: str) -> Path | None:
    """Return the path of a local file or folder; None for any other URL."""
    if "://" not in url:
        return Path(url)
    parts = urlsplit(url)
    return Path(unquote(parts.netloc + parts.path)) if parts.scheme == "file" else None


def _split(url: str) -> tuple[str, PurePosixPath]:
    scheme, _, rest = url.partition("://")
    return scheme.lower(), PurePosixPath(rest)
