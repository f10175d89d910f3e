"""Payloads: the encoded form of labels in the ledger.

A payload is a JSON object, data field -> value, with sorted keys, so that equal labels have equal payloads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

EMPTY = "{}"
_decode = msgspec.json.Decoder(dict[str, str]).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def to_payload(values: Mapping[str, str]) -> str:
    """Encode data-field values as a payload."""
    return _encode(values).decode() if values else EMPTY


def fields_of(payloads: Iterable[str | None]) -> set[str]:
    """Return the data fields that have a value in any of the payloads; None stands for no value."""
    return {name for payload in set(payloads) if payload is not None for name in _decode(payload)}
