"""The ledger's form of labels: a JSON object, data field -> value, with sorted keys; equal texts are equal labels."""

from __future__ import annotations

import collections
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from target_dotdigital.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_dotdigital.labels import Labels

EMPTY = "{}"
# a shop has few combinations of segments compared with its contacts, but a hostile one may have many
MAX_COMBINATIONS = 100_000
_encode = msgspec.json.Encoder(order="sorted").encode


def to_payload(values: Mapping[str, str]) -> str:
    """Return the ledger's form of data-field values."""
    return _encode(values).decode() if values else EMPTY


class LabelEncoder:
    """Turns names into payloads, the only way in which labels are made.

    Args:
        labels: names to values.

    Attributes:
        dropped: names that did not fit, and the number of segment sets affected.
    """

    def __init__(self, labels: Labels) -> None:
        """Start with nothing dropped."""
        self.dropped: collections.Counter[str] = collections.Counter()
        self._labels = labels
        self.payload_of = lru_cache(MAX_COMBINATIONS)(self._payload_of)

    def _payload_of(self, names: str) -> str:
        """Return the payload for a JSON array of names.

        Raises:
            DeliveryError: not all of them fit, and `overflow` is `fail`.
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
        return to_payload(dict(labelled.values))
