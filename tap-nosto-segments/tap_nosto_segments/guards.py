"""Guards: stop the run before the first record if the export looks like an accident."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tap_nosto_segments.errors import GuardError
from tap_nosto_segments.nosto.catalogue import renamed_segments
from tap_nosto_segments.text import MAX_SHOWN_CHARACTERS, enumerated

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tap_nosto_segments.nosto.export import Export
    from tap_nosto_segments.settings import Selection, Settings
    from tap_nosto_segments.snapshots.parser import ParsedExport
    from tap_nosto_segments.snapshots.store import Manifest


@dataclass(frozen=True, slots=True)
class Candidate:
    """A parsed export and what it is compared with.

    Args:
        parsed: the export in numbers.
        digest: SHA-256 of the export, hexadecimal.
        exported_at: when the export was made, or fetched if Nosto does not send the time.
        catalogue: ID -> name of Nosto's segments; empty if unknown.
        base: the bookmark's snapshot, else the newest; None if there is none.
        newest: the snapshot that was written last; None if there is none.
    """

    parsed: ParsedExport
    digest: str
    exported_at: datetime.datetime
    catalogue: Mapping[str, str]
    base: Manifest | None
    newest: Manifest | None

    @property
    def renamed(self) -> dict[str, str]:
        """The segments that were renamed since the base: old name -> new name."""
        return renamed_segments(self.base.catalogue, self.catalogue) if self.base else {}

    @property
    def known_names(self) -> set[str]:
        """Every segment known to exist."""
        return {*self.parsed.counts, *self.catalogue.values(), *(self.base.segment_names if self.base else ())}


def match_catalogue(catalogue: Mapping[str, str], base: Manifest | None, counts: Mapping[str, int]) -> dict[str, str]:
    """Return the catalogue as it was when the export was made.

    The catalogue is current, and the export up to a day old: a segment that was renamed in between keeps its old name here, so that
    its renaming is recognised with the first export that has the new one.

    Args:
        catalogue: ID -> name of Nosto's segments.
        base: the snapshot that the export is compared with.
        counts: segment name -> number of contacts, for every segment in the export.
    """
    before = base.catalogue if base else {}
    return {key: before[key] if before.get(key) in counts and name not in counts else name for key, name in catalogue.items()}


def date_export(export: Export, newest: Manifest | None, now: datetime.datetime) -> datetime.datetime:
    """Return when the export was made; if Nosto does not send the time, the current time.

    Args:
        export: the export.
        newest: the snapshot that was written last.
        now: the current time in UTC.
    """
    if export.made_at is not None:
        return export.made_at.replace(microsecond=0)
    now = now.replace(microsecond=0)
    # this is our time, not Nosto's: the export must not look old only because our clock was set back
    return max(now, newest.exported_at + datetime.timedelta(seconds=1)) if newest else now


def has_same_selection(settings: Settings, maps: str | None, manifest: Manifest) -> bool:
    """Return whether a snapshot was made with the segments, the identifier and the stream maps that the settings choose now.

    Args:
        settings: the settings.
        maps: digest of the stream maps of the contacts; None if no contacts are emitted.
        manifest: the snapshot.
    """
    selection = settings.selection
    return (
        (manifest.include, manifest.exclude) == (selection.include, selection.exclude)
        and settings.segment_identifier in {None, manifest.identifier}
        and maps in {None, manifest.maps}
    )


# in small segments a few contacts already exceed the percentage
MIN_COMPARED_CONTACTS = 100
MAX_LISTED_SEGMENTS = 20
MAX_LISTED_SHRINKAGES = 5
ALL_PERCENT = 100
SEGMENT_ID = re.compile(r"[0-9a-f]{24}")


def require_fresh(settings: Settings, made_at: datetime.datetime | None, now: datetime.datetime) -> None:
    """Reject an export that was made too long ago, if its age is known.

    Raises:
        GuardError: the export is stale.
    """
    if made_at is None or not settings.max_export_age_hours:
        return
    age_hours = (now - made_at).total_seconds() / 3600
    if age_hours > settings.max_export_age_hours:
        msg = (
            f"The export was made {age_hours:.0f} hours ago, more than max_export_age_hours ({settings.max_export_age_hours}): Nosto "
            "may have stopped making it, and its segments are out of date. Nothing was emitted. Check the Segment Export in Nosto's "
            "admin, or raise the setting."
        )
        raise GuardError(msg)


def require_acceptable(settings: Settings, candidate: Candidate, today: datetime.date) -> None:
    """Reject an export whose content is not plausible, or that does not follow from the earlier snapshots.

    Args:
        settings: the settings.
        candidate: the export, and the snapshots that it is compared with.
        today: the date in UTC.

    Raises:
        GuardError: the export must not become a snapshot.
    """
    parsed, newest = candidate.parsed, candidate.newest
    selection = settings.selection.among(candidate.known_names)
    require_plausible_content(settings, parsed)
    require_names(parsed.counts)
    if newest is not None and candidate.digest != newest.export_digest:
        require_newer(candidate.exported_at, newest)
    if candidate.base is not None:
        require_size(settings, selection, parsed, candidate.base, candidate.renamed, today)
    require_chosen_segment(selection, parsed.contacts, parsed.counts, candidate.known_names)


def require_plausible_content(settings: Settings, parsed: ParsedExport) -> None:
    """Reject an export that is empty, has too many malformed lines, or does not hold addresses.

    Raises:
        GuardError: the content is not plausible.
    """
    if parsed.invalid > settings.max_invalid_lines:
        msg = (
            f"{parsed.invalid} of {parsed.lines} lines of the export are malformed (not a JSON object, no address, or no list of "
            f"names), more than max_invalid_lines ({settings.max_invalid_lines}). Nothing was emitted. Inspect the file, and raise the "
            "setting if these contacts may keep the segments that were last known."
        )
        raise GuardError(msg)
    if parsed.contacts == 0 and not settings.allow_empty_export:
        msg = (
            "The export contains no contacts, which would remove every contact from every segment. Nothing was emitted. Check the "
            "Segment Export in Nosto's admin (staging accounts have empty ones), or set allow_empty_export "
            "(TAP_NOSTO_SEGMENTS_ALLOW_EMPTY_EXPORT=true)."
        )
        raise GuardError(msg)
    # dotdigital rejects a few invalid addresses with a reason code; hashes instead of all addresses would remove every known contact
    if parsed.unlike_addresses * 2 > parsed.lines - parsed.invalid:
        msg = (
            f"{parsed.unlike_addresses} of {parsed.lines - parsed.invalid} addresses in the export have no @: the key email seems to "
            "hold hashes or other IDs, and every known contact would be removed. Nothing was emitted. Check the Segment Export in "
            "Nosto's admin."
        )
        raise GuardError(msg)


def require_names(names: Collection[str]) -> None:
    """Reject an export that holds the IDs of segments instead of their names.

    Raises:
        GuardError: every name looks like an ID.
    """
    if names and all(SEGMENT_ID.fullmatch(name) for name in names):
        msg = (
            "The export holds the IDs of segments instead of their names, which no rule in dotdigital would match. Nothing was "
            "emitted. Check the Segment Export in Nosto's admin."
        )
        raise GuardError(msg)


def require_chosen_segment(selection: Selection, contacts: int, counts: Mapping[str, int], known_names: Collection[str]) -> None:
    """Reject a selection that chooses no segment: every contact would be emitted without segments.

    A chosen segment may be empty for a day, so the names in earlier snapshots and in Nosto's catalogue count as well.

    Args:
        selection: the chosen segments.
        contacts: number of contacts in the export.
        counts: segment name -> number of contacts, for every segment in the export.
        known_names: every segment known to exist.

    Raises:
        GuardError: no segment is chosen.
    """
    # "all segments" is a valid choice even if the export contains none
    if contacts == 0 or selection.chosen(known_names) or (not counts and "*" in selection.include):
        return
    if known_names:
        known = enumerated([repr(name[:MAX_SHOWN_CHARACTERS]) for name in sorted(known_names)], MAX_LISTED_SEGMENTS)
        problem = f"segments and exclude_segments choose none of Nosto's segments, which are: {known}"
    else:
        problem = "segments chooses specific segments, but the export contains none at all"
    msg = (
        f"{problem}. Every contact would be emitted without segments, so nothing was emitted. Correct segments; its patterns are "
        "case-sensitive. If the right segment is only empty today, set api_token, so that Nosto's catalogue shows that it exists."
    )
    raise GuardError(msg)


def require_size(
    settings: Settings,
    selection: Selection,
    parsed: ParsedExport,
    base: Manifest,
    renamed: Mapping[str, str],
    today: datetime.date,
) -> None:
    """Reject an export that is much smaller than the bookmark's, as a whole or in one chosen segment.

    Args:
        settings: the settings.
        selection: the chosen segments.
        parsed: the new export.
        base: the bookmark's snapshot.
        renamed: old name -> new name of renamed segments.
        today: the date in UTC.

    Raises:
        GuardError: the export shrank by more than `max_shrink_percent`.
    """
    if settings.shrink_override_date == today:
        return
    shrinkages = []
    if has_shrunk(base.contacts, parsed.contacts, settings.max_shrink_percent):
        shrinkages.append(f"contacts {base.contacts} -> {parsed.contacts}")
    for name, before in sorted(base.counts.items()):
        new_name = renamed.get(name, name)
        after = parsed.counts.get(new_name, 0) if selection.chooses(new_name) else 0
        if selection.chooses(name) and has_shrunk(before, after, settings.max_shrink_percent):
            shrinkages.append(f"segment {name!r} {before} -> {after}")
    if shrinkages:
        hidden = len(shrinkages) - MAX_LISTED_SHRINKAGES
        more = f" and {hidden} more" if hidden > 0 else ""
        msg = (
            f"The export shrank by more than max_shrink_percent ({settings.max_shrink_percent}): "
            f"{'; '.join(shrinkages[:MAX_LISTED_SHRINKAGES])}{more}. Nothing was emitted, because this looks like a broken export or a "
            f"renamed segment. If it is intended, set shrink_override_date for today's run "
            f"(TAP_NOSTO_SEGMENTS_SHRINK_OVERRIDE_DATE={today.isoformat()})."
        )
        raise GuardError(msg)


def require_newer(exported_at: datetime.datetime, newest: Manifest) -> None:
    """Reject an export that is older than the newest snapshot.

    Raises:
        GuardError: the export would undo newer changes.
    """
    if exported_at < newest.exported_at:
        msg = (
            f"The export was made at {exported_at.isoformat()}, before the one that was emitted last "
            f"({newest.exported_at.isoformat()}): it would undo newer changes. Nothing was emitted. Check export_url; to emit it "
            "anyway, run with --full-refresh and an empty snapshot folder."
        )
        raise GuardError(msg)


def has_shrunk(before: int, after: int, max_percent: int) -> bool:
    """Return whether a number shrank by more than a percentage; small numbers and a limit of 100 % never count."""
    return max_percent < ALL_PERCENT and before >= MIN_COMPARED_CONTACTS and (before - after) * ALL_PERCENT > before * max_percent
