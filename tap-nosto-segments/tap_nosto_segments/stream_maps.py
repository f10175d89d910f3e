"""Checks that the SDK's stream maps are safe for contacts, and computes the digest of the maps that a snapshot was emitted with."""

from __future__ import annotations

import ast
import hashlib
import json
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from tap_nosto_segments.errors import SettingsError
from tap_nosto_segments.text import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

MARK = "_sdc_deleted_at"
# what an expression for the address may depend on: nothing that differs between the records of one contact, and nothing random
ADDRESS_NAMES = frozenset(
    {
        "email",
        "self",
        "config",
        "md5",
        "sha256",
        "str",
        "int",
        "float",
        "bool",
        "json",
        "__stream_name__",
        "__original_stream_name__",
    }
)
RECORD_NAMES = frozenset({"_", "record"})


def require_mapped_streams(stream_maps: Mapping[str, Any], streams: Collection[str]) -> None:
    """Reject a stream map for an unknown stream: the data that it should hide or change would be emitted unchanged.

    Raises:
        SettingsError: there is no such stream.
    """
    for name, rules in stream_maps.items():
        source = _source(name, rules)
        if name != "__else__" and not any(fnmatch(stream, source) for stream in streams):
            msg = (
                f"stream_maps has rules for the stream {printable(source)!r}, but this tap only has {', '.join(streams)}, so they "
                "would have no effect. Nothing was fetched. Correct stream_maps."
            )
            raise SettingsError(msg)


def require_marks_of_removal(stream_maps: Mapping[str, Any], stream: str, *, is_dropped: bool) -> None:
    """Reject stream maps by which a contact that was removed, or that no longer passes a filter, would keep its segments.

    Args:
        stream_maps: the setting.
        stream: the stream of contacts.
        is_dropped: whether the SDK drops every record of it.

    Raises:
        SettingsError: a map filters contacts, drops the stream or the mark of removal, or changes the address of a removed contact.
    """
    if is_dropped:
        msg = (
            f"stream_maps drops the stream {stream} as a whole (null for it, or for __else__), but its bookmark would advance: what "
            "changes meanwhile would never be emitted. Nothing was fetched. Deselect the stream in the catalog, or correct stream_maps."
        )
        raise SettingsError(msg)
    for name, rules in _rules_of(stream_maps, stream):
        _require_no_filter(name, rules)
        _require_mark(name, rules)
        _require_stable_address(name, rules)


def digest_of(config: Mapping[str, Any], stream: str, deselected: Collection[str]) -> str:
    """Return the digest of the maps and the selected properties of a stream; an empty text if it is emitted unchanged.

    Args:
        config: the settings.
        stream: the stream.
        deselected: its properties that the catalog deselects.
    """
    rules = dict(_rules_of(config.get("stream_maps") or {}, stream))
    if not rules and not deselected:
        return ""
    values = [rules, config.get("stream_map_config"), config.get("faker_config"), sorted(deselected)]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _rules_of(stream_maps: Mapping[str, Any], stream: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rules that the SDK applies to a stream, including those for copies of it, with their names."""
    for name, rules in stream_maps.items():
        if isinstance(rules, dict) and fnmatch(stream, _source(name, rules)):
            yield name, rules


def _source(name: str, rules: object) -> str:
    """Return the stream, or the pattern of streams, that a rule reads."""
    return str(rules.get("__source__", name)) if isinstance(rules, dict) else name


def _require_no_filter(name: str, rules: Mapping[str, Any]) -> None:
    if rules.get("__filter__") is None:
        return
    msg = (
        f"stream_maps has a __filter__ for contacts ({printable(name)!r}). It would also drop the marks of removed contacts, and nothing "
        "would say that a contact no longer passes it, so both would keep their segments. Nothing was fetched. Choose segments with "
        "segments and exclude_segments, and leave out addresses in the loader (exclude_emails of target-dotdigital)."
    )
    raise SettingsError(msg)


def _require_mark(name: str, rules: Mapping[str, Any]) -> None:
    value = rules.get(MARK)
    if value is None and MARK not in rules:
        if "__else__" not in rules:
            return
        problem = f"drops {MARK} by its __else__"
    elif isinstance(value, str) and _is_reference(value, MARK):
        return
    else:
        problem = f"drops or replaces {MARK}"
    msg = (
        f"stream_maps {problem} ({printable(name)!r}): contacts that were removed would look like contacts in no segment. Nothing was "
        f'fetched. Keep it: add "{MARK}": "{MARK}" to these rules.'
    )
    raise SettingsError(msg)


def _require_stable_address(name: str, rules: Mapping[str, Any]) -> None:
    expression = rules.get("email")
    if not isinstance(expression, str) or _depends_on_address_alone(expression):
        return
    msg = (
        f"stream_maps makes email out of more than the address ({printable(name)!r}), so the removal of a contact could get another "
        "address than its earlier records, and the contact would keep its segments. Nothing was fetched. Use an expression of email, "
        "functions and config only."
    )
    raise SettingsError(msg)


def _is_reference(expression: str, name: str) -> bool:
    """Return whether an expression is the unchanged value of a property."""
    node = _parse(expression)
    return (isinstance(node, ast.Name) and node.id in {name, "self"}) or (node is not None and _property_of_record(node) == name)


def _depends_on_address_alone(expression: str) -> bool:
    tree = _parse(expression)
    if tree is None:
        return True  # the SDK explains what is wrong with it
    nodes = list(ast.walk(tree))
    whole_address = {id(node.value) for node in nodes if _property_of_record(node) == "email"}  # type: ignore[attr-defined]
    names = [node for node in nodes if isinstance(node, ast.Name) and id(node) not in whole_address]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    return {node.id for node in names} <= ADDRESS_NAMES | own


def _property_of_record(node: ast.AST) -> str | None:
    """Return the property that a node reads from the record, such as `record['email']` or `_.email`; None for other nodes."""
    if not isinstance(node, ast.Attribute | ast.Subscript) or not isinstance(node.value, ast.Name):
        return None
    if node.value.id not in RECORD_NAMES:
        return None
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.slice.value if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str) else None


def _parse(expression: str) -> ast.expr | None:
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None
