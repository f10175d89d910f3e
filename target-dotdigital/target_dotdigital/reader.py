"""Reads Singer lines without ever quoting one, and hands plain records on without taking them to pieces first."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from typing import IO, TYPE_CHECKING, Any, Literal, cast

import msgspec
from singer_sdk.singerlib.encoding.base import GenericSingerReader
from singer_sdk.singerlib.exceptions import InvalidInputLine
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

    from singer_sdk.singerlib.encoding.base import SingerMessageType


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class FastPath:
    """The quick way for the records of one stream whose address and segments are all that counts.

    Args:
        stream: its name.
        email: property that holds the address.
        segments: property that holds the names.
        take: takes stream, address, names and whether the contact removed.
    """

    def __init__(self, stream: str, email: str, segments: str, take: Callable[[str, str, list[str] | str, bool], None]) -> None:
        """Make a decoder for just these properties; whatever does not fit its types goes the long way."""
        record = msgspec.defstruct(
            "Record",
            [("email", str), ("segments", list[str] | str | None, None), ("deleted", str | None, None)],
            rename={"email": email, "segments": segments, "deleted": "_sdc_deleted_at"},
            gc=False,
        )
        message = msgspec.defstruct(
            "Message", [("type", Literal["RECORD"]), ("stream", str), ("record", record), ("version", int | None, None)], gc=False
        )
        # the type is made here, so no checker can know its fields
        self._decode: Callable[[bytes | str], Any] = msgspec.json.Decoder(message).decode
        self._stream = stream
        self._take = take
        self.taken = 0
        self.versioned = False

    def try_line(self, line: bytes | str) -> bool:
        """Take a line if it is a plain record of the stream; say whether it was."""
        try:
            message = self._decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return False
        record = message.record
        segments, deleted = record.segments, record.deleted is not None
        if message.stream != self._stream or (segments is None and not deleted) or (deleted and not _is_time(record.deleted)):
            return False
        self._take(self._stream, record.email, segments or [], deleted)
        self.taken += 1
        if message.version is not None:
            self.versioned = True
        return True


class Reader(GenericSingerReader[str]):
    """Reads messages from standard input.

    Attributes:
        lanes: stream -> the quick way for its records; the target opens and closes them.
        line: the number of the last line that was read message by message; 0 before the first.
        empty_record: called with the stream of a record that is null.
        versioned_record: called with the stream of a record that belongs to a version.
    """

    default_input = sys.stdin

    def __init__(self) -> None:
        """Start without quick ways."""
        super().__init__()
        self.lanes: dict[str, FastPath] = {}
        self.line = 0
        self.empty_record: Callable[[str], None] = lambda _stream: None
        self.versioned_record: Callable[[str], None] = lambda _stream: None
        self._streams: set[str] = set()

    @override
    def process_lines(self, file_input: IO[str] | None, callbacks: dict[str, Callable[[dict[str, Any]], None]]) -> Counter[str]:
        stats: Counter[str] = Counter()
        source = file_input or self.default_input
        lines: Any = getattr(source, "buffer", source)
        quick = 0
        lane: FastPath | None = None
        for number, line in enumerate(lines, 1):
            # the lane of the last record first: streams come one after another
            if lane is not None and lane.try_line(line):
                quick += 1
                continue
            self.line = number
            message = self.deserialize_json(line)
            kind: SingerMessageType = message.get("type")  # type: ignore[assignment]  # checked by the look-up
            callback = callbacks.get(kind) if isinstance(kind, str) else None
            if callback is None:
                self._process_unknown_message(message)
            elif self._check(kind, message):
                callback(message)
            stats[kind] += 1
            stream = message.get("stream")
            lane = self.lanes.get(stream) if isinstance(stream, str) else None
        stats["RECORD"] += quick
        return stats

    def _check(self, kind: str, message: dict[str, Any]) -> bool:
        """Check the shape of a message; say whether anything is left to do with it.

        Raises:
            InvalidInputLine: it is not as the Singer specification says.
        """
        if kind == "STATE":
            _require(isinstance(message.get("value"), dict), "a STATE whose value is no object")
            return True
        stream = message.get("stream")
        _require(isinstance(stream, str), f"a {kind} without the name of a stream")
        if kind == "SCHEMA":
            schema, keys = message.get("schema"), message.get("key_properties")
            _require(isinstance(schema, dict), "a SCHEMA whose schema is no object")
            _require(isinstance(cast("dict[str, Any]", schema).get("properties"), dict), "a SCHEMA without properties")
            _require(keys is None or isinstance(keys, list), "a SCHEMA whose key_properties are no list")
            self._streams.add(cast("str", stream))
            return True
        if kind == "RECORD":
            return self._check_record(cast("str", stream), message)
        _require(stream in self._streams, f"a message of type {kind} for a stream that no SCHEMA came for")
        # it clears whatever it does not name, so it has to be meant
        _require(
            kind != "ACTIVATE_VERSION" or type(message.get("version")) is int, "an ACTIVATE_VERSION whose version is no number"
        )
        return True

    def _check_record(self, stream: str, message: dict[str, Any]) -> bool:
        record = message.get("record", ())
        if message.get("version") is not None:
            self.versioned_record(stream)
        if record is None:
            self.empty_record(stream)
            return False
        _require(isinstance(record, dict), "a RECORD whose record is no object")
        deleted = cast("dict[str, Any]", record).get("_sdc_deleted_at")
        # neither to be taken for a removal nor for the contrary
        _require(
            deleted is None or (isinstance(deleted, str) and _is_time(deleted)),
            "a RECORD whose _sdc_deleted_at is neither a time nor null",
        )
        return True

    @override
    def deserialize_json(self, line: str | bytes) -> dict[str, Any]:
        try:
            message = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            message = _lenient(line)
        if not isinstance(message, dict):
            msg = "a line that is no JSON object"
            raise InvalidInputLine(msg)
        return message

    @override
    def _process_unknown_message(self, message_dict: dict[str, Any]) -> None:
        msg = "a message of an unknown type"
        raise InvalidInputLine(msg)


def _is_time(text: str) -> bool:
    """Say whether a text begins as a date does; a date that is out of range is one, too."""
    return _DATE.match(text) is not None


def _require(condition: bool, what: str) -> None:  # noqa: FBT001 - the condition is the argument
    if not condition:
        raise InvalidInputLine(what)


def _lenient(line: str | bytes) -> object:
    """Read JSON that holds NaN or infinite numbers, as Python writes them; they become null. None if it cannot be read."""
    try:
        message = json.loads(line, parse_constant=lambda _name: None)
        # what only Python can read, such as half a character, must not get any further
        return msgspec.json.decode(msgspec.json.encode(message))
    except (ValueError, TypeError, RecursionError):
        return None
