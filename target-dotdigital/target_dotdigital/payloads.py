"""The ledger's form of labels: a JSON object, data field -> value, with sorted keys; equal texts are equal labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

EMPTY = "{}"
_encode = msgspec.json.Encoder(order="sorted").encode


def to_payload(values: Mapping[str, str]) -> str:
    """Return the ledger's form of data-field values."""
    return _encode(values).decode() if values else EMPTY
