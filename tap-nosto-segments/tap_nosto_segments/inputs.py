"""The files of the command line and the names in them, checked before anything is fetched."""

from __future__ import annotations

import contextlib
import decimal
import io
import json
from fnmatch import fnmatch
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from singer_sdk.singerlib import Catalog

from tap_nosto_segments.errors import InputError, SettingsError
from tap_nosto_segments.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

Kind = TypeVar("Kind")


class _Bookmark(msgspec.Struct):
    """What the SDK and this tap keep of one stream. Its streams have no partitions."""

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
    anyOf: list[dict[str, Any]] | None = None  # noqa: N815 - as JSON Schema spells it
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
    """Read a STATE.

    Args:
        file: what `--state` names.
        streams: name -> replication key of the tap's streams.

    Raises:
        InputError: it is not a STATE of this tap.
    """
    with readable("state file", "--state", "Pass the STATE that the last run wrote, or leave out --state to emit everything."):
        state = _object(file)
        if state and "bookmarks" not in state:
            msg = "it has no bookmarks"
            raise ValueError(msg)
        bookmarks = _converted("bookmarks", state.get("bookmarks", {}), dict[str, Any])
        for name, bookmark in bookmarks.items():
            _converted(f"the bookmark of {printable(name)}", bookmark, _Bookmark if name in streams else dict[str, Any])
        if bookmarks and not streams.keys() & bookmarks.keys():
            msg = f"its bookmarks name none of this tap's streams, which are {', '.join(streams)}"
            raise ValueError(msg)
    return state


def read_catalog(file: IO[str], streams: Mapping[str, str | None]) -> Catalog:
    """Read a catalog.

    Args:
        file: what `--catalog` names.
        streams: name -> replication key of the tap's streams.

    Raises:
        InputError: it is not a catalog of this tap.
    """
    with readable("catalog", "--catalog", "Make a new one with --discover, and only select streams and properties in it."):
        catalog = _object(file)
        for entry in _converted("the catalog", catalog, _Catalog).streams:
            _require_entry(entry, streams)
        return Catalog.from_dict(catalog)


def require_mapped_streams(stream_maps: Mapping[str, Any], streams: Collection[str]) -> None:
    """Refuse a stream map for a stream that the tap does not have: what it should hide or change would be emitted as it is.

    Raises:
        SettingsError: naming the stream.
    """
    for name, rules in stream_maps.items():
        source = rules.get("__source__", name) if isinstance(rules, dict) else name
        if name != "__else__" and not any(fnmatch(stream, source) for stream in streams):
            msg = (
                f"stream_maps has rules for the stream {printable(source)!r}, but this tap only has {', '.join(streams)}: they would have "
                "no effect. Nothing was fetched. Correct stream_maps."
            )
            raise SettingsError(msg)


def _require_entry(entry: _Entry, streams: Mapping[str, str | None]) -> None:
    name = entry.tap_stream_id
    problem = None
    if name not in streams:
        problem = f"this tap has no stream {printable(name)!r}, but {', '.join(streams)}"
    elif entry.stream not in {None, name}:
        problem = f"it gives the stream {name} the name {printable(entry.stream or '')!r}, which only stream_maps can do"
    else:
        root = next((one.metadata for one in entry.metadata if not one.breadcrumb), {})
        key = entry.replication_key or root.get("replication-key")
        method = entry.replication_method or root.get("forced-replication-method")
        if key and key != streams[name]:
            problem = f"the stream {name} has no replication key {printable(str(key))!r}"
        elif method and method != "FULL_TABLE" and (method != "INCREMENTAL" or streams[name] is None):
            problem = f"the stream {name} cannot be replicated by the method {printable(str(method))!r}"
    if problem:
        raise ValueError(problem)


def _object(file: IO[str]) -> dict[str, Any]:
    """Read a JSON object; numbers stay exact."""
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(encoding="utf-8")  # JSON is, whatever the locale
    text = file.read()
    if not text.strip():
        msg = "it is empty"
        raise ValueError(msg)
    value = json.loads(text, parse_float=decimal.Decimal)
    if not isinstance(value, dict):
        msg = "it is JSON, but not an object"
        raise ValueError(msg)  # noqa: TRY004 - all that is wrong with a file is explained alike
    return value


@contextlib.contextmanager
def readable(name: str, option: str, advice: str) -> Iterator[None]:
    """Turn everything that can be wrong with a file into one line, which shows no value of it.

    Raises:
        InputError: naming the file and the option of the command line.
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
        # ours, and those of two JSON libraries
        line, column = getattr(error, "lineno", None), getattr(error, "colno", None)
        problem = str(error) if line is None else f"it is not JSON (line {line}, column {column})"
    except (TypeError, AttributeError, KeyError) as error:
        problem = f"its form is not the right one ({type(error).__name__})"
    else:
        return
    msg = f"The {name} ({option}) cannot be used: {problem}. Nothing was fetched. {advice}"
    raise InputError(msg)


def _converted(place: str, value: object, kind: type[Kind]) -> Kind:
    """Return a value as a type; what is wrong is said by place and types only."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        msg = f"{place}: {error}"
        raise ValueError(msg) from None
