"""Forecast of a first load, from what the rehearsal has measured. No I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from target_dotdigital.rehearsal.journal import Facts

DEFAULT_CONTACTS = (100_000, 1_000_000)


def forecast(contacts: int | None, per_import: int, limit: int | None, facts: Facts) -> list[str]:
    """Return sentences about a first load.

    Args:
        contacts: number of contacts that the last run wants to send; None if there is none.
        per_import: maximum number of contacts per import.
        limit: import calls per minute; None if unknown.
        facts: what the rehearsal has measured.
    """
    lines = []
    for total in DEFAULT_CONTACTS if not contacts else (contacts,):
        calls = math.ceil(total / per_import)
        line = f"{total:,} contacts need {calls:,} import {'call' if calls == 1 else 'calls'}"
        if limit:
            minutes = math.ceil(calls / limit)
            line += f"; the rate limit ({limit:,} a minute) allows them within {minutes} {'minute' if minutes == 1 else 'minutes'}"
        lines.append(f"{line}.")
    if facts.import_seconds:
        seconds, polls = facts.import_seconds, facts.import_polls
        lines.append(
            f"Each of the {len(seconds)} small imports took up to {max(seconds):.0f} s and {max(polls)} polls. "
            "How long dotdigital takes for large ones is not known; set max_contacts_per_run for a first load in parts."
        )
    return lines
