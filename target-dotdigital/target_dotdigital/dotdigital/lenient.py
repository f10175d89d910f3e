"""Decodes responses that are nearly as dotdigital documents them: what is odd in one place does not hide the rest.

A member that has a default counts as absent if it is null or of another type, and an item of a list that cannot be read is left out.
What a response cannot do without is required all the same: a page of contacts without its items is not an empty page.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import inspect

Answer = TypeVar("Answer")
_ODD: Any = object()
_LEAVES: dict[type[inspect.Type], tuple[type, ...]] = {
    inspect.StrType: (str,),
    inspect.IntType: (int,),
    inspect.BoolType: (bool,),
    inspect.NoneType: (type(None),),
    inspect.DictType: (dict,),
}


def decode(content: bytes, kind: type[Answer]) -> tuple[Answer, int]:
    """Decode a response, and return the number of its parts that were left out as well; null members are not counted.

    Raises:
        msgspec.DecodeError: the response is not JSON, or something is missing that it cannot do without.
    """
    try:
        return msgspec.json.decode(content, type=kind), 0
    except msgspec.ValidationError:
        # slow, but rare
        repair = _Repair()
        found = repair.value(msgspec.json.decode(content), inspect.type_info(kind))
        if found is _ODD:
            raise
        return msgspec.json.decode(msgspec.json.encode(found), type=kind), repair.left_out


class _Repair:
    """Reduces a JSON value to what can be decoded as a type; `left_out` counts what was taken away."""

    def __init__(self) -> None:
        self.left_out = 0

    def value(self, value: Any, kind: inspect.Type) -> Any:
        """Return what can be read of a value; `_ODD` if nothing can."""
        match kind:
            case inspect.StructType():
                return self._members(value, kind)
            case inspect.ListType():
                return self._items(value, kind.item_type)
            case inspect.UnionType():
                found = (self.value(value, one) for one in kind.types)
                return next((one for one in found if one is not _ODD), _ODD)
        types = _LEAVES.get(type(kind))
        return value if types is None or isinstance(value, types) else _ODD

    def _members(self, value: Any, kind: inspect.StructType) -> Any:
        if not isinstance(value, dict):
            return _ODD
        kept = dict(value)
        for member in kind.fields:
            name = member.encode_name
            if name in value and (found := self.value(value[name], member.type)) is not _ODD:
                kept[name] = found
            elif member.required:
                return _ODD
            elif kept.pop(name, None) is not None:
                self.left_out += 1
        return kept

    def _items(self, value: Any, kind: inspect.Type) -> Any:
        if not isinstance(value, list):
            return _ODD
        kept = [found for one in value if (found := self.value(one, kind)) is not _ODD]
        self.left_out += len(value) - len(kept)
        return kept
