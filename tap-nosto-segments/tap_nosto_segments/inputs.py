"""Read and check the files named on the command line, before anything is fetched."""

from __future__ import annotations

import contextlib
import decimal
import io
import json
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from singer_sdk.singerlib import Catalog

from tap_nosto_segments.errors import InputError
from tap_nosto_segments.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Converted = TypeVar("Converted")


class _Bookmark(msgspec.Struct):
    """The bookmark of one stream, as the SDK and this tap write it. The streams have no partitions."""

    snapshot: str | None = None
    replication_key: str | None = None
    replication_key_value: str | None = None
    replication_key_signpost: str | None = None
    starting_replication_value: str | None = None
    progress_markers: dict[str, Any] | None = None
    partitions: Annotated[list[Any], msgspec.Meta(max_length=0)] | None = None


class _Property(msgspec.Struct):
    type: str | list[str] | None = None
    format: str | None = None
    anyOf: list[dict[str, Any]] | None = None  # noqa: N815 - spelled as in JSON Schema
    allOf: list[dict[str, Any]] | None = None  # noqa: N815
    oneOf: list[dict[str, Any]] | None = None  # noqa: N815


class _Schema(msgspec.Struct):
    properties: dict[str, _Property] = {}


class _Metadata(msgspec.Struct):
    breadcrumb: list[str]
    metadata: dict[str, Any]


class _Entry(msgspec.Struct):
    tap_stream_id: str
    schema: _Schema
    stream: str | None = None
    metadata: list[_Metadata] = []
    key_properties: list[str] | None = None
    replication_key: str | None = None
    replication_method: str | None = None


class _Catalog(msgspec.Struct):
    streams: list[_Entry]


def read_state(file: IO[str], streams: Mapping[str, str | None]) -> dict[str, Any]:
    """Read a state file.

    Args:
        file: the file of `--state`.
        streams: stream name -> replication key.

    Raises:
        InputError: the file is not a STATE of this tap.
    """
    with explain_file_errors(
        "state file", "--state", "Pass the STATE that the last run wrote, or omit --state to emit everything."
    ):
        state = _read_object(file)
        if state and "bookmarks" not in state:
            msg = "it has no bookmarks"
            raise ValueError(msg)
        bookmarks = _convert("bookmarks", state.get("bookmarks", {}), dict[str, Any])
        for name, bookmark in bookmarks.items():
            _convert(f"the bookmark of {printable(name)}", bookmark, _Bookmark if name in streams else dict[str, Any])
        if bookmarks and not streams.keys() & bookmarks.keys():
            msg = f"its bookmarks name none of this tap's streams, which are {', '.join(streams)}"
            raise ValueError(msg)
    return state


def read_catalog(file: IO[str], streams: Mapping[str, str | None]) -> Catalog:
    """Read a catalog.

    Args:
        file: the file of `--catalog`.
        streams: stream name -> replication key.

    Raises:
        InputError: the file is not a catalog of this tap.
    """
    with explain_file_errors("catalog", "--catalog", "Create a new one with --discover, and change only the selection in it."):
        catalog = _read_object(file)
        for entry in _convert("the catalog", catalog, _Catalog).streams:
            _require_valid_entry(entry, streams)
        return Catalog.from_dict(catalog)


def _require_valid_entry(entry: _Entry, streams: Mapping[str, str | None]) -> None:
    name = entry.tap_stream_id
    problem = None
    if name not in streams:
        problem = f"this tap has no stream {printable(name)!r}, only {', '.join(streams)}"
    elif entry.stream not in {None, name}:
        problem = f"it renames the stream {name} to {printable(entry.stream or '')!r}, which only stream_maps can do"
    else:
        root = next((item.metadata for item in entry.metadata if not item.breadcrumb), {})
        key = entry.replication_key or root.get("replication-key")
        method = entry.replication_method or root.get("forced-replication-method")
        if key and key != streams[name]:
            problem = f"the stream {name} has no replication key {printable(str(key))!r}"
        elif method and method != "FULL_TABLE" and (method != "INCREMENTAL" or streams[name] is None):
            problem = f"the stream {name} cannot be replicated with the method {printable(str(method))!r}"
    if problem:
        raise ValueError(problem)


def _read_object(file: IO[str]) -> dict[str, Any]:
    """Read a JSON object, with exact decimal numbers."""
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(encoding="utf-8")  # the encoding of JSON, whatever the locale
    text = file.read()
    if not text.strip():
        msg = "it is empty"
        raise ValueError(msg)
    value = json.loads(text, parse_float=decimal.Decimal)
    if not isinstance(value, dict):
        msg = "it is JSON, but not an object"
        raise ValueError(msg)  # noqa: TRY004 - explained like all other problems
    return value


@contextlib.contextmanager
def explain_file_errors(name: str, option: str, advice: str) -> Iterator[None]:
    """Turn any error in reading a file into one line, which shows no values of the file.

    Args:
        name: the file, for the message.
        option: the option of the command line that names it.
        advice: what to do.

    Raises:
        InputError: the file cannot be used.
    """
    try:
        yield
    except UnicodeDecodeError:
        problem = "it is not UTF-8 text"
    except RecursionError:
        problem = "it is nested too deeply"
    except OSError as error:
        problem = f"it cannot be read ({type(error).__name__})"
    except ValueError as error:
        # our own, and those of two JSON libraries
        line, column = getattr(error, "lineno", None), getattr(error, "colno", None)
        problem = str(error) if line is None else f"it is not JSON (line {line}, column {column})"
    except (TypeError, AttributeError, KeyError) as error:
        problem = f"it does not have the expected form ({type(error).__name__})"
    else:
        return
    msg = f"The {name} ({option}) cannot be used: {problem}. Nothing was fetched. {advice}"
    raise InputError(msg)


def _convert(place: str, value: object, kind: type[Converted]) -> Converted:
    """Convert a value to a type; an error names only the place and the types, not the value."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        msg = f"{place}: {error}"
        raise ValueError(msg) from None
