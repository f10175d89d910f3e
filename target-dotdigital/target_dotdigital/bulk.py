"""Many rows in one statement: they travel as one JSON text, which both databases take apart themselves.

Row by row the driver's own work would cost several times as much as the database's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PARAMETER = "rows"


def columns(dialect: str, **types: sa.types.TypeEngine[Any]) -> dict[str, sa.ColumnElement[Any]]:
    """Give the columns of the rows that are bound to `PARAMETER`, for a SELECT."""
    rows = sa.bindparam(PARAMETER, type_=sa.Text)
    if dialect == "postgresql":
        each = sa.func.jsonb_array_elements(sa.cast(rows, JSONB)).table_valued("value", name="each")
        return {
            name: sa.cast(sa.cast(each.c.value, JSONB).op("->>")(sa.literal_column(str(place))), kind).label(name)
            for place, (name, kind) in enumerate(types.items())
        }
    each = sa.func.json_each(rows).table_valued("value", name="each")
    return {
        name: sa.type_coerce(sa.func.json_extract(each.c.value, f"$[{place}]"), kind).label(name)
        for place, (name, kind) in enumerate(types.items())
    }


def bound(rows: Sequence[tuple[Any, ...]]) -> Mapping[str, str]:
    """Give the parameter for the rows."""
    return {PARAMETER: msgspec.json.encode(rows).decode()}
