"""Reads the files of BATCH messages with the SDK's own storage, which only opens files in one configured folder."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from singer_sdk.helpers._batch import StorageTarget  # private, but the only reader of batch files that the SDK has

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

    Files are read from storage.root of batch_config, regardless of the folder in the message.

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
    # the SDK does not decode the URL of a local folder
    folder = {**storage, "root": unquote(storage["root"]) if storage["root"].startswith("file:") else storage["root"]}
    for url in manifest:
        name, number = unquote(StorageTarget.split_url(url)[1]), 0
        try:
            with contextlib.ExitStack() as stack:
                lines: IO[Any] = stack.enter_context(StorageTarget.from_dict(folder).open(name))
                if encoding.get("compression") == "gzip":
                    lines = stack.enter_context(cast("IO[Any]", gzip.GzipFile(fileobj=lines)))
                for number, line in enumerate(lines, 1):
                    yield name, number, line
        except (OSError, EOFError, zlib.error, ImportError, ValueError) as error:
            raise batch_error(name, f"cannot be read after line {number} ({type(error).__name__})") from None
        if number == 0:
            raise batch_error(name, "is empty")
