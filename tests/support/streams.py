"""Catalogs of the tap."""

from __future__ import annotations

from typing import Any

from tap_nosto_segments.tap import TapNostoSegments


def catalog(*names: str) -> dict[str, Any]:
    """Return a catalog that selects these streams; all if there are no names."""
    made: dict[str, Any] = TapNostoSegments(config={}, validate_config=False, setup_mapper=False).catalog_dict
    for entry in made["streams"]:
        root = next(item for item in entry["metadata"] if not item["breadcrumb"])
        root["metadata"]["selected"] = not names or entry["tap_stream_id"] in names
    return made
