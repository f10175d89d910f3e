"""Test the assumptions about the records of the export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_nosto_segments.checking.transport import NO_FILE, why_not_export
from tap_nosto_segments.checking.verdict import Finding, compared, not_tested
from tap_nosto_segments.guards import SEGMENT_ID, has_shrunk
from tap_nosto_segments.snapshots.identifier import enumerate_keys
from tap_nosto_segments.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tap_nosto_segments.checking.evidence import Evidence
    from tap_nosto_segments.snapshots.head import Head
    from tap_nosto_segments.snapshots.parser import ParsedExport

EMPTY = "the export is empty"
NO_RECORDS = "the export has no records"
NO_CONTACTS = "no contact could be read"


def _export_has_contacts(evidence: Evidence, head: Head) -> Finding:
    parsed = evidence.content.parsed if evidence.content else None
    lines = parsed.lines if parsed else head.lines
    return compared(holds=lines > 0, expected="at least one line", seen=f"{lines:,} lines" if lines else "an empty file")


def _json_lines(evidence: Evidence, head: Head) -> Finding:
    expected = "a JSON object in each line"
    if head.other_format is not None:
        return compared(holds=False, expected=expected, seen=head.other_format)
    # an incomplete last line is the transfer's fault
    cut_lines = 1 if evidence.download.failure is not None else 0
    malformed = head.lines - head.objects - head.undecodable
    if malformed > cut_lines:
        return compared(holds=False, expected=expected, seen=f"{malformed:,} of the first {head.lines:,} lines are none")
    parsed = evidence.content.parsed if evidence.content else None
    if parsed is None or parsed.invalid <= cut_lines:
        return compared(holds=True, expected=expected, seen=f"{parsed.lines if parsed else head.lines:,} lines, each an object")
    if _is_explained(evidence, head):
        return compared(holds=True, expected=expected, seen=f"the first {head.lines:,} lines are objects")
    return compared(
        holds=False,
        expected="an object with an address and a list of names in each line",
        seen=f"{parsed.invalid:,} of {parsed.lines:,} lines are malformed",
    )


def _is_explained(evidence: Evidence, head: Head) -> bool:
    """Return whether another refuted assumption explains malformed lines."""
    return bool(head.undecodable) or not _has_email(head) or len(_usable_keys(evidence, head)) != 1


def _text_is_utf8(_: Evidence, head: Head) -> Finding:
    seen = f"{head.undecodable:,} of the first {head.lines:,} lines cannot be decoded" if head.undecodable else "UTF-8"
    return compared(holds=not head.undecodable, expected="UTF-8", seen=seen)


def _email_key(_: Evidence, head: Head) -> Finding:
    return compared(holds=_has_email(head), expected="the key email", seen=f"the keys {enumerate_keys(head.keys.records)}")


def _has_email(head: Head) -> bool:
    return head.keys.records.get("email", 0) * 2 > head.objects


def _one_list_of_names(evidence: Evidence, head: Head) -> Finding:
    identifier = evidence.settings.segment_identifier
    candidates = head.keys.candidates
    expected = f"a list of names under {printable(identifier)!r}" if identifier else "one key with a list of names"
    seen = f"lists of names under: {enumerate_keys(candidates)}" if candidates else "no list of names"
    return compared(holds=len(_usable_keys(evidence, head)) == 1, expected=expected, seen=seen)


def _usable_keys(evidence: Evidence, head: Head) -> list[str]:
    """Return the keys that hold lists of names; if the identifier is configured, only that one."""
    identifier = evidence.settings.segment_identifier
    return [key for key in head.keys.candidates if identifier in {None, key}]


def _addresses_in_clear(_: Evidence, parsed: ParsedExport) -> Finding:
    count = parsed.unlike_addresses
    seen = f"{count:,} of {parsed.lines - parsed.invalid:,} addresses without @"
    return compared(holds=count * 2 <= parsed.lines - parsed.invalid, expected="addresses with @", seen=seen)


def _names_not_ids(_: Evidence, parsed: ParsedExport) -> Finding:
    if not parsed.counts:
        return not_tested("no contact is in a segment")
    ids = sum(SEGMENT_ID.fullmatch(name) is not None for name in parsed.counts)
    seen = f"{ids:,} of {len(parsed.counts):,} have the form of an ID"
    return compared(holds=ids < len(parsed.counts), expected="names", seen=seen)


def _one_line_per_contact(_: Evidence, parsed: ParsedExport) -> Finding:
    seen = f"{parsed.duplicates:,} duplicates in {parsed.lines:,} lines"
    return compared(holds=not parsed.duplicates, expected="no duplicates", seen=seen)


def _contacts_without_segments_are_listed(evidence: Evidence, parsed: ParsedExport) -> Finding:
    count = evidence.content.without_segments if evidence.content else 0
    if not count:
        return not_tested("every contact in the export is in a segment, which proves nothing")
    return compared(holds=True, expected="contacts with an empty list", seen=f"{count:,} of {parsed.contacts:,} contacts")


def _export_is_full(evidence: Evidence, parsed: ParsedExport) -> Finding:
    base, export = evidence.base, evidence.download.export
    if base is None or export is None or base.export_digest == export.digest:
        return not_tested("there is no snapshot of another export")
    max_percent = evidence.settings.max_shrink_percent
    return compared(
        # each malformed line may be a contact
        holds=not has_shrunk(base.contacts, parsed.contacts + parsed.invalid, max_percent),
        expected=f"at most {max_percent} % fewer contacts than the {base.contacts:,} of the snapshot",
        seen=f"{parsed.contacts:,} contacts",
    )


def _of_head(test: Callable[[Evidence, Head], Finding]) -> Callable[[Evidence], Finding]:
    """Return a test that needs the first lines of an export."""

    def run(evidence: Evidence) -> Finding:
        content, reason = evidence.content, why_not_export(evidence)
        return not_tested(reason or NO_FILE) if content is None or reason is not None else test(evidence, content.head)

    return run


def _of_records(test: Callable[[Evidence, Head], Finding]) -> Callable[[Evidence], Finding]:
    """Return a test that needs records."""

    def run(evidence: Evidence, head: Head) -> Finding:
        if not head.lines:
            return not_tested(EMPTY)
        return test(evidence, head) if head.keys.records else not_tested(NO_RECORDS)

    return _of_head(run)


def _of_contacts(test: Callable[[Evidence, ParsedExport], Finding]) -> Callable[[Evidence], Finding]:
    """Return a test that needs contacts."""

    def run(evidence: Evidence, head: Head) -> Finding:
        if not head.lines:
            return not_tested(EMPTY)
        parsed = evidence.content.parsed if evidence.content else None
        return not_tested(NO_CONTACTS) if parsed is None or not parsed.contacts else test(evidence, parsed)

    return _of_head(run)


def _of_lines(test: Callable[[Evidence, Head], Finding]) -> Callable[[Evidence], Finding]:
    """Return a test that needs lines."""

    def run(evidence: Evidence, head: Head) -> Finding:
        return test(evidence, head) if head.lines else not_tested(EMPTY)

    return _of_head(run)


TESTS: Mapping[str, Callable[[Evidence], Finding]] = {
    "export_has_contacts": _of_head(_export_has_contacts),
    "json_lines": _of_lines(_json_lines),
    "text_is_utf8": _of_lines(_text_is_utf8),
    "email_key": _of_records(_email_key),
    "addresses_in_clear": _of_contacts(_addresses_in_clear),
    "one_list_of_names": _of_records(_one_list_of_names),
    "names_not_ids": _of_contacts(_names_not_ids),
    "one_line_per_contact": _of_contacts(_one_line_per_contact),
    "contacts_without_segments_are_listed": _of_contacts(_contacts_without_segments_are_listed),
    "export_is_full": _of_contacts(_export_is_full),
    "one_file_holds_everything": lambda _: not_tested("nothing in the file says so; compare the numbers with Nosto's admin"),
    "memberships_are_current": lambda _: not_tested("nothing in the file says so; compare a contact with Nosto's admin"),
    "redacted_contacts_leave": lambda _: not_tested("the tap does not know which contacts were redacted"),
}
