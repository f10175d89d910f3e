"""Reads Singer lines without ever quoting one: they hold addresses."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
from singer_sdk.singerlib.encoding.base import GenericSingerReader
from singer_sdk.singerlib.exceptions import InvalidInputLine
from typing_extensions import override


class Reader(GenericSingerReader[str]):
    """Reads messages from standard input."""

    default_input = sys.stdin

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
