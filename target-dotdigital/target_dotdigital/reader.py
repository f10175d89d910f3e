"""Reads Singer messages. Error messages never quote a line, and plain records take a fast path around the SDK."""

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

from target_dotdigital.batches import batch_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from singer_sdk.singerlib.encoding.base import SingerMessageType


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class RecordDecoder:
    """Decodes the plain records of one stream without the SDK's processing.

    Args:
        stream: name of the stream.
        email: property with the address.
        segments: property with the segment names.
        take: called with stream, address, the JSON of the names, and whether the contact was removed.

    Attributes:
        count: number of records.
        version: version of the records; a record of another one does not take this path.
        last: the last line that was processed; None if the stream's last record did not take this path.
    """

    def __init__(self, stream: str, email: str, segments: str, take: Callable[[str, str, str, bool], None]) -> None:
        record = msgspec.defstruct(
            "Record",
            # the names stay JSON, because the ledger stores JSON, and the names of most contacts are unchanged
            [("email", str), ("segments", msgspec.Raw, msgspec.Raw()), ("deleted", str | None, None)],
            rename={"email": email, "segments": segments, "deleted": "_sdc_deleted_at"},
            gc=False,
        )
        message = msgspec.defstruct(
            "Message", [("type", Literal["RECORD"]), ("stream", str), ("record", record), ("version", int | None, None)], gc=False
        )
        # the types are created at run time, so type checkers do not know their fields
        self._decode: Callable[[bytes | str], Any] = msgspec.json.Decoder(message).decode
        self._decode_record: Callable[[bytes | str], Any] = msgspec.json.Decoder(record).decode
        self._stream = stream
        self._take = take
        self.count = 0
        self.version: int | None = None
        self.last: bytes | str | None = None

    def try_line(self, line: bytes | str) -> bool:
        """Process a line if it is a plain record of the stream, and return whether it was."""
        try:
            message = self._decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return False
        if message.stream != self._stream or message.version != self.version or not self._hand_over(message.record):
            return False
        self.last = line
        return True

    def try_record(self, line: bytes) -> bool:
        """Process a line of a batch file, which is a record alone, if it fits the types; return whether it did."""
        try:
            record = self._decode_record(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return False
        return self._hand_over(record)

    def _hand_over(self, record: Any) -> bool:
        deleted = record.deleted is not None
        try:
            # the decoder has checked everything except the encoding
            segments = str(record.segments, "utf-8")
        except UnicodeError:
            return False
        if (deleted and not is_time(record.deleted)) or not (segments or deleted):
            return False
        self._take(self._stream, record.email, segments, deleted)
        self.count += 1
        return True


class _RecordHead(msgspec.Struct, gc=False):
    type: Literal["RECORD"]
    stream: str


class RecordSkipper:
    """Skips the records of a stream that holds no contacts.

    Args:
        stream: name of the stream.
    """

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._decode = msgspec.json.Decoder(_RecordHead).decode
        self._decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        self.count = 0

    def try_line(self, line: bytes | str) -> bool:
        """Skip a line if it is a record of the stream, and return whether it was."""
        try:
            message = self._decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return False
        if message.stream != self._stream:
            return False
        self.count += 1
        return True

    def try_record(self, line: bytes) -> bool:
        """Skip a line of a batch file if it is a JSON object, and return whether it was."""
        try:
            self._decode_object(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return False
        self.count += 1
        return True


class Reader(GenericSingerReader[str]):
    """Reads messages from standard input.

    Attributes:
        decoders: stream -> decoder of its records; the target registers them.
        line: number of the last line that did not take a fast path; 0 before the first.
        empty_record: called with the stream of a record that is null.
        versioned_record: called with stream and version of a record that has a version, before the record is processed.
    """

    default_input = sys.stdin

    def __init__(self) -> None:
        super().__init__()
        self.decoders: dict[str, RecordDecoder | RecordSkipper] = {}
        self.line = 0
        self.empty_record: Callable[[str], None] = lambda _stream: None
        self.versioned_record: Callable[[str, int], None] = lambda _stream, _version: None
        self._streams: set[str] = set()
        self._last: dict[str, Any] = {}

    def remove_decoder(self, stream: str) -> RecordDecoder | RecordSkipper | None:
        """Remove the decoder of a stream, and return it; None if the stream has none."""
        decoder = self.decoders.pop(stream, None)
        if isinstance(decoder, RecordDecoder) and decoder.last is not None:
            self._last[stream] = msgspec.json.decode(decoder.last)["record"]
        return decoder

    def last_record(self, stream: str) -> Any:
        """Return the last record of a stream whose decoder is removed, as it came; None if there is none."""
        return self._last.get(stream)

    @override
    def process_lines(self, file_input: IO[str] | None, callbacks: dict[str, Callable[[dict[str, Any]], None]]) -> Counter[str]:
        stats: Counter[str] = Counter()
        source = file_input or self.default_input
        lines: Any = getattr(source, "buffer", source)
        quick = 0
        decoder: RecordDecoder | RecordSkipper | None = None
        for number, line in enumerate(lines, 1):
            # try the decoder of the previous record first, because records of one stream usually follow each other
            if decoder is not None and decoder.try_line(line):
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
            decoder = self.decoders.get(stream) if isinstance(stream, str) else None
        stats["RECORD"] += quick
        return stats

    def read_batch(self, stream: str, lines: Iterable[tuple[str, int, bytes]], process: Callable[[dict[str, Any]], None]) -> None:
        """Process the records of batch files as if each had come as a RECORD message.

        Args:
            stream: name of the stream.
            lines: name of the file, number of the line, and the line.
            process: called with a RECORD message for each record that takes no fast path.

        Raises:
            StreamError: a file cannot be read, or one of its lines is not a record.
        """
        decoder = self.decoders.get(stream)
        for name, number, line in lines:
            if decoder is not None and decoder.try_record(line):
                continue
            try:
                message = {"type": "RECORD", "stream": stream, "record": self.deserialize_json(line)}
                self._check_record(stream, message)
            except InvalidInputLine as error:
                raise batch_error(name, f"has {error} (line {number})") from None
            process(message)

    def _check(self, kind: str, message: dict[str, Any]) -> bool:
        """Check the shape of a message, and return whether it has to be processed.

        Raises:
            InvalidInputLine: the message does not follow the Singer specification.
        """
        if kind == "STATE":
            _require(isinstance(message.get("value"), dict), "a STATE message whose value is not an object")
            return True
        stream = message.get("stream")
        _require(isinstance(stream, str), f"a {kind} without the name of a stream")
        if kind == "SCHEMA":
            schema, keys = message.get("schema"), message.get("key_properties")
            _require(isinstance(schema, dict), "a SCHEMA message whose schema is not an object")
            _require(isinstance(cast("dict[str, Any]", schema).get("properties"), dict), "a SCHEMA message without properties")
            _require(keys is None or isinstance(keys, list), "a SCHEMA message whose key_properties are not a list")
            self._streams.add(cast("str", stream))
            return True
        if kind == "RECORD":
            return self._check_record(cast("str", stream), message)
        _require(stream in self._streams, f"a message of type {kind} for a stream without a preceding SCHEMA")
        # ACTIVATE_VERSION removes all contacts that are missing in the input, so it has to be well-formed
        _require(
            kind != "ACTIVATE_VERSION" or type(message.get("version")) is int,
            "an ACTIVATE_VERSION message whose version is not an integer",
        )
        return True

    def _check_record(self, stream: str, message: dict[str, Any]) -> bool:
        record, version = message.get("record", ()), message.get("version")
        self._last[stream] = record
        if isinstance(decoder := self.decoders.get(stream), RecordDecoder):
            decoder.last = None
        if version is not None:
            _require(type(version) is int, "a RECORD message whose version is not an integer")
            self.versioned_record(stream, version)
        if record is None:
            self.empty_record(stream)
            return False
        _require(isinstance(record, dict), "a RECORD message whose record is not an object")
        deleted = cast("dict[str, Any]", record).get("_sdc_deleted_at")
        # any other value is ambiguous: it is treated neither as removed nor as present
        _require(
            deleted is None or (isinstance(deleted, str) and is_time(deleted)),
            "a RECORD message whose _sdc_deleted_at is neither a time nor null",
        )
        return True

    @override
    def deserialize_json(self, line: str | bytes) -> dict[str, Any]:
        try:
            message = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            message = _lenient(line)
        if not isinstance(message, dict):
            msg = "a line that is not a JSON object"
            raise InvalidInputLine(msg)
        return message

    @override
    def _process_unknown_message(self, message_dict: dict[str, Any]) -> None:
        msg = "a message of an unknown type"
        raise InvalidInputLine(msg)


def is_empty(source: IO[str] | None) -> bool:
    """Wait for the first line of an input, and return whether it ended without one; None is an input that was closed."""
    if source is None:
        return True
    peek = getattr(getattr(source, "buffer", None), "peek", None)
    if peek is not None:
        return not peek(1)
    start = source.tell()
    first = source.read(1)
    source.seek(start)
    return not first


def is_time(text: str) -> bool:
    """Return whether a text begins with a date; its range is not checked."""
    return _DATE.match(text) is not None


def _require(condition: bool, what: str) -> None:  # noqa: FBT001 - the condition is the argument
    if not condition:
        raise InvalidInputLine(what)


def _lenient(line: str | bytes) -> object:
    """Decode JSON with Python's NaN and Infinity, which become null; return None if the line cannot be decoded."""
    try:
        message = json.loads(line, parse_constant=lambda _name: None)
        # the round trip rejects values that only Python accepts, such as lone surrogates
        return msgspec.json.decode(msgspec.json.encode(message))
    except (ValueError, TypeError, RecursionError):
        return None
