"""Decodes responses into types; an unexpected value in one place does not make the rest unreadable."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import inspect

from target_dotdigital.text import shown

MAX_ID = (1 << 63) - 1
MAX_ID_DIGITS = 19
IMPORT_ID = r"\A[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z"
NULL = msgspec.Raw(b"null")


def usable_id(raw: msgspec.Raw) -> int | None:
    """Return a JSON value as an ID, a whole number from 1 to 2^63-1 that the ledger can store; None if it is not one."""
    text = bytes(raw)
    # length first, so that a text of thousands of digits is not parsed
    if len(text) > MAX_ID_DIGITS or not text.isdigit() or text.startswith(b"0"):
        return None
    number = int(text)
    return number if number <= MAX_ID else None


class Identified(msgspec.Struct, kw_only=True):
    """An object with an ID. An invalid ID does not make the rest of the response unreadable."""

    raw_id: msgspec.Raw = msgspec.field(name="id", default=NULL)

    @property
    def id(self) -> int | None:
        """The ID; None if it is invalid."""
        return usable_id(self.raw_id)


class ImportStatus(msgspec.Struct, rename="camel"):
    """The state of an import; everything else is missing or null as long as it is not finished (docs/assumptions.md, dotdigital 5)."""

    import_id: str = ""
    status: str = ""
    created: list[ContactReference] | None = None
    updated: list[ContactReference] | None = None
    failures: list[RowFailure] | None = None


class Marker(msgspec.Struct):
    """Where the next page of a list begins."""

    marker: str = ""
    link: str = ""


class Links(msgspec.Struct):
    """The links of a page."""

    next: Marker | None = None

    @property
    def next_marker(self) -> str:
        """The marker of the next page; empty after the last one."""
        if self.next is None:
            return ""
        try:
            return self.next.marker or parse_qs(urlsplit(self.next.link).query).get("marker", [""])[0]
        except ValueError:
            # not a URL
            return ""


class Identifiers(msgspec.Struct, rename="camel"):
    """The identifiers of a contact."""

    email: str | None = None
    raw_contact_id: msgspec.Raw = msgspec.field(name="contactId", default=NULL)


class ContactReference(msgspec.Struct, rename="camel", kw_only=True):
    """A contact in a response. An invalid ID does not make the rest of the response unreadable."""

    raw_contact_id: msgspec.Raw = msgspec.field(name="contactId", default=NULL)
    identifiers: Identifiers = msgspec.field(default_factory=Identifiers)

    @property
    def contact_id(self) -> int | None:
        """The contact ID; None if it is invalid. A failure of a row that was matched by ID may repeat the ID as it was sent."""
        return usable_id(self.raw_contact_id) or usable_id(self.identifiers.raw_contact_id)


class FailureReason(msgspec.Struct, rename="camel"):
    """Why a row failed. The description is not decoded, because it may quote the address."""

    failure_code: str = "Unknown"

    def __post_init__(self) -> None:
        """Sanitise the code, so that it can be stored and displayed."""
        self.failure_code = shown(self.failure_code) or "Unknown"


class RowFailure(ContactReference, kw_only=True):
    """A row that was not imported, or only partly."""

    failures: list[FailureReason] = msgspec.field(default_factory=list)


class ImportAccepted(msgspec.Struct, rename="camel"):
    """An accepted import; its ID is a UUID (docs/assumptions.md, dotdigital 4)."""

    import_id: Annotated[str, msgspec.Meta(pattern=IMPORT_ID)]


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
        msgspec.DecodeError: the response is not JSON, or a required member is missing.
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
    """Reduces a JSON value to the parts that can be decoded as a type; `left_out` counts the removed parts."""

    def __init__(self) -> None:
        self.left_out = 0

    def value(self, value: Any, kind: inspect.Type) -> Any:
        """Return the decodable part of a value; `_ODD` if there is none."""
        match kind:
            case inspect.StructType():
                return self._members(value, kind)
            case inspect.ListType():
                return self._items(value, kind.item_type)
            case inspect.UnionType():
                found = (self.value(value, alternative) for alternative in kind.types)
                return next((decoded for decoded in found if decoded is not _ODD), _ODD)
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
        kept = [found for item in value if (found := self.value(item, kind)) is not _ODD]
        self.left_out += len(value) - len(kept)
        return kept
