"""Applies the SDK's stream maps to records, so that none of them hides that a contact left the source or a filter."""

from __future__ import annotations

import ast
import enum
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from singer_sdk.mapper import (
    MAPPER_ALIAS_OPTION,
    MAPPER_SOURCE_OPTION,
    CustomStreamMap,
    PluginMapper,
    RemoveRecordTransform,
)

from target_dotdigital.errors import SettingsError
from target_dotdigital.text import normalise, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from singer_sdk.mapper import StreamMap


MARK = "_sdc_deleted_at"


class Fate(enum.Enum):
    """How a stream map treated a record."""

    PASSED = enum.auto()
    REMOVED = enum.auto()
    DROPPED = enum.auto()


class Mapped(NamedTuple):
    """A record after a stream map.

    Args:
        stream: name of the stream after the map.
        fate: whether the record passed, marks its contact as removed, or was dropped by a filter.
        record: the mapped record if it passed, otherwise only the address.
    """

    stream: str
    fate: Fate
    record: Mapping[str, Any]


class AddressMaps:
    """Stream maps that compute only the address of a record, without a filter.

    A mark of removal, or a record that a filter drops, may lack the properties that other expressions need.

    Args:
        config: the settings.
        email: property with the address.
    """

    def __init__(self, config: Mapping[str, Any], email: str) -> None:
        self._email = email
        kept = (MAPPER_SOURCE_OPTION, MAPPER_ALIAS_OPTION, email)
        maps = {
            name: {option: value[option] for option in kept if option in value} if isinstance(value, dict) else value
            for name, value in (config.get("stream_maps") or {}).items()
        }
        # the SDK logs each map once more
        quiet = logging.getLogger("target-dotdigital.addresses")
        quiet.setLevel(logging.WARNING)
        self._mapper = PluginMapper({**config, "stream_maps": maps}, quiet)

    def register(self, stream: str, schema: dict[str, Any]) -> None:
        """Create the maps of a stream."""
        self._mapper.register_raw_stream_schema(stream, schema, None)

    def apply(self, maps: Sequence[StreamMap], stream: str, record: dict[str, Any]) -> list[Mapped]:
        """Apply the stream maps of the settings to a record; maps that drop the whole stream are left out.

        Marks of removal are read from the original record, and pass every filter. A record that one map drops and another one lets
        pass, with the same address, is not dropped: the contact is still there.

        Args:
            maps: stream maps of the settings for the stream.
            stream: name of the stream.
            record: the record.
        """
        found: list[Mapped] = []
        for stream_map, address in zip(maps, self._mapper.stream_maps[stream], strict=True):
            if isinstance(stream_map, RemoveRecordTransform):
                continue
            if record.get("_sdc_deleted_at") is not None:
                found.append(Mapped(stream_map.stream_alias, Fate.REMOVED, self._address_of(address, record)))
            elif (mapped := stream_map.transform(dict(record))) is not None or stream_map.get_filter_result(record):
                found.append(Mapped(stream_map.stream_alias, Fate.PASSED, mapped or {}))
            else:
                found.append(Mapped(stream_map.stream_alias, Fate.DROPPED, self._address_of(address, record)))
        passed = {self._key(result.record) for result in found if result.fate is Fate.PASSED}
        return [result for result in found if result.fate is not Fate.DROPPED or self._key(result.record) not in passed]

    def _address_of(self, stream_map: StreamMap, record: dict[str, Any]) -> dict[str, Any]:
        try:
            mapped = stream_map.transform(dict(record)) or {}
        except Exception:  # noqa: BLE001 - an expression may raise anything about a record that has no address
            return {}
        return {self._email: mapped.get(self._email)}

    def _key(self, record: Mapping[str, Any]) -> str:
        address = record.get(self._email)
        return normalise(address) if isinstance(address, str) else ""


def require_stable_addresses(stream_maps: Mapping[str, Any] | None, email: str, segments: str) -> None:
    """Require that no map makes the address depend on the segments or on the mark of removal, which change from day to day.

    Such a contact would get another address than before, and keep its labels under the earlier one.

    Args:
        stream_maps: the setting.
        email: property with the address.
        segments: property with the segment names.

    Raises:
        SettingsError: a map does.
    """
    for name, rules in (stream_maps or {}).items():
        expression = rules.get(email) if isinstance(rules, dict) else None
        found = {segments, MARK} & _names_in(expression) if isinstance(expression, str) else None
        if found:
            msg = (
                f"stream_maps makes {email} depend on {min(found)} ({shown(name)!r}): a contact whose segments change, or that is removed, "
                "would get another address, and keep its labels under the earlier one. Nothing was done. Use the address alone."
            )
            raise SettingsError(msg)


def _names_in(expression: str) -> set[str]:
    """Return the names and texts in an expression; none if it cannot be parsed, which the SDK explains."""
    try:
        nodes = list(ast.walk(ast.parse(expression.strip(), mode="eval")))
    except (SyntaxError, ValueError):
        return set()
    found = set()
    for node in nodes:
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def has_expressions(maps: Sequence[StreamMap]) -> bool:
    """Return whether any of the stream maps changes or filters records."""
    return any(isinstance(stream_map, CustomStreamMap) for stream_map in maps)
