"""Reads segment names, and turns them into data field values. No I/O, no clock."""

from __future__ import annotations

import collections
import difflib
import re
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.errors import DeliveryError
from target_dotdigital.models import LabelChanges, to_payload
from target_dotdigital.text import INVISIBLE, is_blank

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from target_dotdigital.settings import LabelSettings

# most shops have few combinations of segments; the limit bounds memory for shops with many
MAX_COMBINATIONS = 100_000
# a missing list, as programs write it into a text
MISSING = frozenset({"null", "none"})
# quotes and brackets before an array that was written into a text more than once
WRAPPING = f"'\"( \t{INVISIBLE}"
_ELEMENT = r'\s*(?:"((?:[^"\\]|\\.)*)"|([^{}",\\\s\'][^{}",\\]*))\s*'
_POSTGRES_ARRAY = re.compile(rf"\{{\s*\}}|\{{{_ELEMENT}(?:,{_ELEMENT})*\}}", re.DOTALL)
_POSTGRES_ELEMENT = re.compile(_ELEMENT, re.DOTALL)
_decode_list = msgspec.json.Decoder(list[str]).decode


class Labelled(msgspec.Struct, frozen=True):
    """The labels of a contact.

    Args:
        value: the data field's value; empty for a contact without labels.
        dropped: names that did not fit, in order.
    """

    value: str
    dropped: tuple[str, ...] = ()


class Labels:
    """Turns names into values; the order of the names does not matter."""

    def __init__(self, settings: LabelSettings) -> None:
        self.settings = settings

    @cached_property
    def _rank(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.settings.priority)}

    @cached_property
    def _labels(self) -> dict[str, str]:
        return dict(self.settings.labels)

    def of(self, names: Iterable[str]) -> Labelled:
        """Return the values for the names; blank names are ignored, and names are never truncated."""
        distinct = sorted({name for name in names if not is_blank(name)})
        if self._rank:
            most = len(self._rank)
            distinct.sort(key=lambda name: self._rank.get(name, most))
        labels = list(dict.fromkeys(self._labels.get(name, name) for name in distinct)) if self._labels else distinct
        if not labels:
            return Labelled("")
        value = self._join(labels)
        if len(value) <= self.settings.length:
            return Labelled(value)
        return self._keep_fitting(labels)

    def read(self, value: list[str] | str) -> list[str] | None:
        """Return the names in a record's list or text; None if they cannot be read, so that the contact's segments are not known.

        Blank names are left out. A list that holds nothing else is not an empty list.
        """
        listed = read_text(value, self.settings.delimiter) if isinstance(value, str) else value
        if listed is None:
            return None
        names = [name for name in listed if not is_blank(name)]
        return None if (listed and not names) or any(map(_holds_list, names)) else names

    def _keep_fitting(self, labels: Sequence[str]) -> Labelled:
        """Keep the labels that fit into the data field, and drop the others."""
        kept: list[str] = []
        dropped: list[str] = []
        for label in labels:
            fits = len(self._join([*kept, label])) <= self.settings.length
            (kept if fits else dropped).append(label)
        return Labelled(self._join(kept), tuple(dropped))

    def _join(self, labels: list[str]) -> str:
        if not labels:
            return ""
        text = self.settings.delimiter.join(labels)
        return f"{self.settings.delimiter}{text}{self.settings.delimiter}" if self.settings.enclosed else text


def read_text(text: str, delimiter: str) -> list[str] | None:
    """Return the names in a text: delimited names, a JSON array, or an array as PostgreSQL writes it.

    Args:
        text: the text; if it is blank, the contact is in no segment.
        delimiter: text between two names.

    Returns:
        None for a missing list (`null`), and for a text that looks like an array but cannot be decoded.
    """
    text = text.strip().strip(INVISIBLE).strip()
    if text.strip("'\"").lower() in MISSING or text.startswith(("('", '("')):
        return None
    if text.lstrip(WRAPPING)[:1] not in {"[", "{"}:
        return [name.strip() for name in text.split(delimiter) if not is_blank(name)]
    if text.startswith('"'):
        # JSON in JSON
        try:
            text = msgspec.json.decode(text, type=str).strip()
        except msgspec.DecodeError:
            return None
    return _postgres_array(text) if text.startswith("{") else _json_list(text)


def _holds_list(name: str) -> bool:
    """Return whether a single name is in fact a list that was written into a text."""
    return (name.startswith("[") and _json_list(name) is not None) or (
        name.startswith("{") and len(_postgres_array(name) or ()) > 1
    )


def _json_list(text: str) -> list[str] | None:
    try:
        return _decode_list(text)
    except (msgspec.DecodeError, UnicodeError):
        return None


def _postgres_array(text: str) -> list[str] | None:
    """Return the elements of a one-dimensional array; None if the text is not one, or if an element is NULL."""
    if _POSTGRES_ARRAY.fullmatch(text) is None:
        return None
    found = [(quoted, plain.strip()) for quoted, plain in _POSTGRES_ELEMENT.findall(text[1:-1])]
    if any(plain.lower() == "null" for _, plain in found):
        return None
    return [plain or re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL) for quoted, plain in found]


def ambiguous_names(names: Iterable[str], delimiter: str) -> list[str]:
    """Return a sentence for each ambiguous name, that is, one that contains another name or the delimiter."""
    ordered = sorted(set(names))
    folded = {name: name.casefold() for name in ordered}
    found = [
        f"{inner!r} is part of {outer!r}"
        for inner in ordered
        for outer in ordered
        if inner != outer and folded[inner] in folded[outer]
    ]
    return found + [f"{name!r} contains the delimiter {delimiter!r}" for name in ordered if delimiter in name]


def unmatched_entries(settings: LabelSettings, names: Collection[str]) -> list[str]:
    """Return a sentence for each entry of `segment_priority` and `segment_labels` that is not the name of a segment.

    Args:
        settings: the label settings.
        names: the names of all segments that have contacts.
    """
    entries = {"segment_priority": settings.priority, "segment_labels": [name for name, _ in settings.labels]}
    folded = {name.casefold(): name for name in sorted(names)}
    found = []
    for setting, entry in [
        (setting, entry) for setting, listed in entries.items() for entry in listed if names and entry not in names
    ]:
        nearest = folded[difflib.get_close_matches(entry.casefold(), folded, n=1, cutoff=0.0)[0]]
        found.append(f"{entry!r} in {setting} is the name of no segment; the nearest name is {nearest!r}")
    return found


class LabelDecoder:
    """Turns payloads into the names of segments.

    Args:
        settings: the label settings.
    """

    def __init__(self, settings: LabelSettings) -> None:
        self._delimiter = settings.delimiter
        self._names = {label: name for name, label in settings.labels}
        self.names_in = lru_cache(MAX_COMBINATIONS)(self._names_in)

    def joined_and_left(self, before: str | None, after: str) -> tuple[frozenset[str], frozenset[str]]:
        """Return the segments whose labels are in the second payload alone, and those whose labels are in the first alone."""
        old, new = self.names_in(before), self.names_in(after)
        return new - old, old - new

    def count(self, changes: Iterable[tuple[str | None, str, int]]) -> LabelChanges:
        """Count the contacts that joined and left each segment.

        Args:
            changes: payload before, payload after, number of contacts.
        """
        counted = LabelChanges()
        for before, after, contacts in changes:
            joined, left = self.joined_and_left(before, after)
            counted.joined.update(dict.fromkeys(joined, contacts))
            counted.left.update(dict.fromkeys(left, contacts))
        return counted

    def _names_in(self, payload: str | None) -> frozenset[str]:
        values = msgspec.json.decode(payload or "{}", type=dict[str, str]).values()
        labels = (label for value in values for label in value.split(self._delimiter) if label)
        return frozenset(self._names.get(label, label) for label in labels)


class LabelEncoder:
    """Turns names into payloads, and counts the names that were dropped.

    Args:
        labels: turns names into values.

    Attributes:
        dropped: names that did not fit, and the number of segment sets affected.
    """

    def __init__(self, labels: Labels) -> None:
        self.dropped: collections.Counter[str] = collections.Counter()
        self._labels = labels
        self.payload_of = lru_cache(MAX_COMBINATIONS)(self._payload_of)

    def _payload_of(self, names: str) -> str:
        """Return the payload for a JSON array of names.

        Raises:
            DeliveryError: some names do not fit, and `overflow` is `fail`.
        """
        labelled = self._labels.of(msgspec.json.decode(names))
        if labelled.dropped:
            if self._labels.settings.overflow == "fail":
                msg = (
                    f"The labels of a contact do not fit into {self._labels.settings.length} characters, and overflow is set to fail. "
                    "Nothing was written. Choose fewer segments, shorter segment_labels, or another overflow."
                )
                raise DeliveryError(msg)
            self.dropped.update(labelled.dropped)
        return to_payload({self._labels.settings.field: labelled.value} if labelled.value else {})
