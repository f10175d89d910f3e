"""Guards: what looks like an accident stops the run before the first record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_nosto_segments.errors import GuardError
from tap_nosto_segments.text import MAX_SHOWN_LENGTH, enumerated

if TYPE_CHECKING:
    import datetime
    from collections.abc import Collection, Mapping

    from tap_nosto_segments.parsing import Parsed
    from tap_nosto_segments.settings import Selection, Settings
    from tap_nosto_segments.snapshots import Manifest

# below this, a few shoppers more or less are many per cent
SMALLEST_JUDGED = 100
MAX_LISTED_NAMES = 20


def require_fresh(settings: Settings, made: datetime.datetime | None, now: datetime.datetime) -> None:
    """Refuse an export that was made too long ago, where its age is known.

    Raises:
        GuardError: it is stale.
    """
    if made is None or not settings.max_export_age_hours:
        return
    age = (now - made).total_seconds() / 3600
    if age > settings.max_export_age_hours:
        msg = (
            f"The export was made {age:.0f} hours ago, more than max_export_age_hours ({settings.max_export_age_hours}): Nosto "
            "has perhaps stopped making it, and its segments are out of date. Nothing was emitted. Check the Segment Export in "
            "Nosto's admin, or raise the setting."
        )
        raise GuardError(msg)


def require_sane(settings: Settings, parsed: Parsed) -> None:
    """Refuse an export that is empty, or has too many malformed lines.

    Raises:
        GuardError: it is so.
    """
    if parsed.invalid > settings.max_invalid_lines:
        msg = (
            f"{parsed.invalid} of {parsed.lines} lines of the export are malformed (no JSON object, no address, or no list of "
            f"names), more than max_invalid_lines ({settings.max_invalid_lines}). Nothing was emitted. Look at the file, and raise "
            "the setting if these contacts may be left out."
        )
        raise GuardError(msg)
    if parsed.contacts == 0 and not settings.allow_empty_export:
        msg = (
            "The export holds no contact at all: read literally, everybody has left every segment. Nothing was emitted. Check the "
            "Segment Export in Nosto's admin (staging accounts have empty ones), or set allow_empty_export."
        )
        raise GuardError(msg)


def require_choice(selection: Selection, contacts: int, counts: Mapping[str, int], names: Collection[str]) -> None:
    """Refuse a selection that chooses no segment: every contact would be emitted as being in none.

    A chosen segment may well be empty for a day, so the names of earlier snapshots and of Nosto's catalogue count too.

    Args:
        selection: which segments are synchronised.
        contacts: contacts of the export.
        counts: contacts of every segment that the export names.
        names: every segment known to exist.

    Raises:
        GuardError: it chooses none.
    """
    # an export that names no segment agrees with the wish for all of them
    if contacts == 0 or selection.chosen(names) or (not counts and "*" in selection.include):
        return
    if names:
        known = enumerated([repr(name[:MAX_SHOWN_LENGTH]) for name in sorted(names)], MAX_LISTED_NAMES)
        problem = f"segments and exclude_segments choose none of Nosto's segments, which are: {known}"
    else:
        problem = "segments chooses certain segments, but the export names none at all"
    msg = (
        f"{problem}. Emitted like this, every contact would be in no segment, so nothing was emitted. Correct segments; its patterns "
        "are case-sensitive. If the right segment is only empty today, set api_token, so that Nosto's catalogue can tell."
    )
    raise GuardError(msg)


def require_size(settings: Settings, parsed: Parsed, base: Manifest, renamed: Mapping[str, str], today: datetime.date) -> None:
    """Refuse an export that is much smaller than the bookmark's, as a whole or in one chosen segment.

    Args:
        settings: the settings.
        parsed: the new export.
        base: the snapshot that the bookmark names.
        renamed: old name -> new name of segments known to be renamed.
        today: the date in UTC.

    Raises:
        GuardError: it shrank by more than `max_shrink_percent`.
    """
    if settings.shrink_released_on == today:
        return
    shrunken = []
    if _shrank(base.contacts, parsed.contacts, settings.max_shrink_percent):
        shrunken.append(f"contacts {base.contacts} -> {parsed.contacts}")
    for name, before in sorted(base.counts.items()):
        now_called = renamed.get(name, name)
        was_chosen = settings.selection.chooses(name)
        after = parsed.counts.get(now_called, 0) if settings.selection.chooses(now_called) else 0
        if was_chosen and _shrank(before, after, settings.max_shrink_percent):
            shrunken.append(f"segment {name!r} {before} -> {after}")
    if shrunken:
        more = f" and {len(shrunken) - 5} more" if len(shrunken) > 5 else ""  # noqa: PLR2004 - enough to see what it is
        msg = (
            f"The export shrank by more than max_shrink_percent ({settings.max_shrink_percent}): {'; '.join(shrunken[:5])}{more}. "
            "Nothing was emitted, because this looks like a broken export or a renamed segment. If it is meant, set "
            f"shrink_released_on to {today.isoformat()} for today's run."
        )
        raise GuardError(msg)


def require_newer(exported_at: datetime.datetime, newest: Manifest) -> None:
    """Refuse an export that is older than what was already emitted.

    Raises:
        GuardError: it would be applied backwards.
    """
    if exported_at < newest.exported_at:
        msg = (
            f"The export was made at {exported_at.isoformat()}, before the one that was emitted last "
            f"({newest.exported_at.isoformat()}): applied now, it would turn segments back. Nothing was emitted. Check export_url; "
            "to apply it all the same, run with --full-refresh and an empty snapshot folder."
        )
        raise GuardError(msg)


def _shrank(before: int, after: int, most: int) -> bool:
    return most < 100 and before >= SMALLEST_JUDGED and (before - after) * 100 > before * most  # noqa: PLR2004 - per cent
