"""Reads Singer lines without ever quoting one, and hands plain records on without taking them to pieces first."""

from __future__ import annotations

import sys
from collections import Counter
from typing import IO, TYPE_CHECKING, Any, Literal

import msgspec
from singer_sdk.singerlib.encoding.base import GenericSingerReader
from singer_sdk.singerlib.exceptions import InvalidInputLine
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

    from singer_sdk.singerlib.encoding.base import SingerMessageType


class Lane:
    """The quick way for the records of one stream whose address and segments are all that counts.

    Args:
        stream: its name.
        email: property that holds the address.
        segments: property that holds the names.
        take: takes stream, address, names and whether the contact vanished.
    """

    def __init__(self, stream: str, email: str, segments: str, take: Callable[[str, str, list[str] | str, bool], None]) -> None:
        """Make a decoder for just these properties; whatever does not fit its types goes the long way."""
        record = msgspec.defstruct(
            "Record",
            [("email", str), ("segments", list[str] | str | None, None), ("deleted", str | None, None)],
            rename={"email": email, "segments": segments, "deleted": "_sdc_deleted_at"},
            gc=False,
        )
        message = msgspec.defstruct("Message", [("type", Literal["RECORD"]), ("stream", str), ("record", record)], gc=False)
        # the type is made here, so no checker can know its fields
        self._decode: Callable[[bytes | str], Any] = msgspec.json.Decoder(message).decode
        self._stream = stream
        self._take = take
        self.taken = 0

    def try_line(self, line: bytes | str) -> bool:
        """Take a line if it is a plain record of the stream; say whether it was."""
        try:
            message = self._decode(line)
        except (msgspec.DecodeError, UnicodeError):
            return False
        record = message.record
        segments, deleted = record.segments, record.deleted is not None
        if message.stream != self._stream or (segments is None and not deleted):
            return False
        self._take(self._stream, record.email, segments or [], deleted)
        self.taken += 1
        return True


class Reader(GenericSingerReader[str]):
    """Reads messages from standard input.

    Attributes:
        lanes: stream -> the quick way for its records; the target opens and closes them.
    """

    default_input = sys.stdin

    def __init__(self) -> None:
        """Start without quick ways."""
        super().__init__()
        self.lanes: dict[str, Lane] = {}

    @override
    def process_lines(self, file_input: IO[str] | None, callbacks: dict[str, Callable[[dict[str, Any]], None]]) -> Counter[str]:
        stats: Counter[str] = Counter()
        source = file_input or self.default_input
        lines: Any = getattr(source, "buffer", source)
        quick = 0
        lane: Lane | None = None
        for line in lines:
            # the lane of the last record first: streams come one after another
            if lane is not None and lane.try_line(line):
                quick += 1
                continue
            message = self.deserialize_json(line)
            self.assert_line_requires(message, requires={"type"})
            kind: SingerMessageType = message["type"]
            if not isinstance(kind, str) or (callback := callbacks.get(kind)) is None:
                self._process_unknown_message(message)
            else:
                callback(message)
            stats[kind] += 1
            stream = message.get("stream")
            lane = self.lanes.get(stream) if isinstance(stream, str) else None
        stats["RECORD"] += quick
        return stats

    @override
    def deserialize_json(self, line: str) -> dict[str, Any]:
        try:
            message = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeError):
            message = None
        if not isinstance(message, dict):
            msg = "A line of the input is no JSON object"
            raise InvalidInputLine(msg)
        return message

    @staticmethod
    @override
    def assert_line_requires(line_dict: dict[str, Any], requires: set[str]) -> None:
        missing = requires - set(line_dict)
        if missing:
            msg = f"A line of the input lacks {', '.join(sorted(missing))}"
            raise InvalidInputLine(msg)

    @override
    def _process_unknown_message(self, message_dict: dict[str, Any]) -> None:
        msg = "A line of the input is of an unknown type"
        raise InvalidInputLine(msg)
