"""Show the evidence and the verdicts as a table: counts and names of segments, never an address, a token or a signed URL."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from tap_nosto_segments.checking.transport import why_not_export
from tap_nosto_segments.checking.verdict import Outcome
from tap_nosto_segments.snapshots.identifier import enumerate_keys
from tap_nosto_segments.text import nearest_name, printable, shown_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tap_nosto_segments.assumptions import Assumption
    from tap_nosto_segments.checking.authorisation import Attempt
    from tap_nosto_segments.checking.evidence import Content, Evidence
    from tap_nosto_segments.checking.verdict import Verdict
    from tap_nosto_segments.snapshots.parser import ParsedExport

MAX_LISTED_SEGMENTS = 200
MAX_LISTED_PATTERNS = 10
LABEL_WIDTH = 20
INDENT = " " * 14


def show_attempts(attempts: Sequence[Attempt], configured: str) -> Iterator[str]:
    """Return the lines that say which form of authorisation opened the file."""
    yield "Authorisation"
    for attempt in attempts:
        yield _row(attempt.method + (" (configured)" if attempt.method == configured else ""), attempt.seen)
    opened = [attempt.method for attempt in attempts if attempt.opened]
    if not opened:
        advice = "no form opened the file; check export_token, and export_auth_name for header and query"
    elif "none" in opened:
        advice = "the address needs no token: set export_auth to none"
    elif configured in opened:
        advice = f"export_auth is right: {configured} opened the file"
    else:
        advice = f"set export_auth to {' or '.join(opened)}"
    yield _row("Result", advice)
    yield ""


def show_evidence(evidence: Evidence) -> Iterator[str]:
    """Return the lines that say what was seen."""
    yield "Export"
    yield from _delivery(evidence)
    if evidence.content is not None and why_not_export(evidence) is None:
        yield ""
        yield "Records"
        yield from _records(evidence, evidence.content)
        if evidence.content.parsed is not None:
            yield ""
            yield from _segments(evidence, evidence.content.parsed)
    yield ""
    yield "Comparison"
    yield _row("Snapshots", _snapshots(evidence))
    yield _row("Catalogue", _catalogue(evidence))


def show_verdicts(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Return the lines that say which assumptions hold; the refuted ones come last, where they are seen first."""
    numbers = {outcome: sum(verdict.finding.outcome == outcome for verdict in verdicts) for outcome in Outcome}
    yield "Assumptions: " + ", ".join(f"{number} {outcome}" for outcome, number in numbers.items())
    yield from (line for verdict in verdicts if verdict.finding.outcome is Outcome.CONFIRMED for line in _confirmed(verdict))
    yield from _not_tested([verdict for verdict in verdicts if verdict.finding.outcome is Outcome.NOT_TESTED])
    yield from (line for verdict in verdicts if verdict.finding.outcome is Outcome.REFUTED for line in _refuted(verdict))


def _confirmed(verdict: Verdict) -> Iterator[str]:
    yield f"  confirmed   {verdict.assumption.id}: {verdict.assumption.statement} Seen: {verdict.finding.seen}."


def _not_tested(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Return the lines for the assumptions that were not tested; those with a common reason share one entry."""
    by_reason: dict[str, list[Assumption]] = {}
    for verdict in verdicts:
        by_reason.setdefault(verdict.finding.reason, []).append(verdict.assumption)
    for reason, assumptions in by_reason.items():
        if len(assumptions) == 1:
            yield f"  not tested  {assumptions[0].id}: {assumptions[0].statement}"
            yield f"{INDENT}because: {reason}"
            yield f"{INDENT}by hand: {assumptions[0].by_hand}"
        else:
            yield f"  not tested  {', '.join(assumption.id for assumption in assumptions)}"
            yield f"{INDENT}because: {reason}"


def _refuted(verdict: Verdict) -> Iterator[str]:
    assumption, finding = verdict.assumption, verdict.finding
    yield f"  REFUTED     {assumption.id}: {assumption.statement}"
    yield f"{INDENT}expected: {finding.expected}"
    yield f"{INDENT}seen: {finding.seen}"
    yield f"{INDENT}what a run does: {assumption.if_wrong}"
    yield f"{INDENT}what to do: {assumption.consequence}"


def _delivery(evidence: Evidence) -> Iterator[str]:
    download, last = evidence.download, evidence.last
    for exchange in download.exchanges:
        target = f", redirects to {exchange.redirects_to}" if exchange.redirects_to else ""
        yield _row("Address", f"{exchange.origin}: status {exchange.status}{target}")
    if not evidence.is_http:
        yield _row("Address", "a file, not an http address")
    elif last is None:
        yield _row("Address", "no answer")
    if last is not None:
        yield _row("Content type", last.content_type or "not sent")
        yield _row("Content encoding", last.content_encoding or "none")
        yield _row("Length", "not announced" if last.length is None else f"{last.length:,} bytes announced")
        yield _row("ETag", "sent" if last.etag else "not sent")
        yield _row("Last-Modified", printable(last.last_modified or "not sent"))
    export = download.export
    if export is None:
        yield _row("Read", f"{download.lines_so_far:,} lines so far; the export did not arrive as a whole")
        return
    form = f"gzip, {export.size:,} bytes decompressed" if export.is_gzip else "not compressed"
    part = "the whole export" if download.failure is None else "everything that was sent, which is not a complete export"
    yield _row("Read", f"{part}: {export.received:,} bytes ({form})")
    yield _row("Age", _age(evidence.now, export.made_at))
    recognised = {True: "yes, by status 304", False: "no; it is downloaded again and compared", None: "not asked"}
    yield _row("Unchanged recognised", recognised[download.is_unchanged_recognised])


def _age(now: datetime.datetime, made_at: datetime.datetime | None) -> str:
    if made_at is None:
        return "unknown: max_export_age_hours has no effect"
    hours = max(0.0, (now - made_at).total_seconds() / 3600)
    return f"{hours:,.1f} hours (made {made_at.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC)"


def _records(evidence: Evidence, content: Content) -> Iterator[str]:
    head, parsed = content.head, content.parsed
    identifier = evidence.settings.segment_identifier
    yield _row("Keys", f"{enumerate_keys(head.keys.records) or 'none'} (in the first {head.lines:,} lines)")
    yield _row("Lists of names", enumerate_keys(head.keys.candidates) or "none")
    configured = enumerate_keys([identifier]) if identifier else "not set, so it is detected"
    yield _row("segment_identifier", configured)
    if parsed is None:
        yield _row("Lines", f"{head.lines:,} so far; the names cannot be read")
        return
    yield _row("Lines", f"{parsed.lines:,}, of which {parsed.invalid:,} are malformed and {parsed.duplicates:,} are duplicates")
    yield _row("Contacts", f"{parsed.contacts:,}, of which {content.without_segments:,} are in no segment")


def _segments(evidence: Evidence, parsed: ParsedExport) -> Iterator[str]:
    selection, counts = evidence.settings.selection.among(evidence.known_names), parsed.counts
    chosen = set(selection.chosen(counts))
    yield f"Segments: {len(counts):,} in the export, {len(chosen):,} chosen by segments and exclude_segments"
    by_size = sorted(counts, key=lambda name: (name not in chosen, -counts[name], name))
    for name in by_size[:MAX_LISTED_SEGMENTS]:
        yield f"  {'chosen' if name in chosen else '-':<8}{counts[name]:>12,}  {shown_name(name)}"
    if len(by_size) > MAX_LISTED_SEGMENTS:
        yield f"  and {len(by_size) - MAX_LISTED_SEGMENTS:,} more"
    known = {*counts, *evidence.catalogue.values()}
    if len(known) > len(counts):
        yield f"  and {len(known) - len(counts):,} in Nosto's catalogue that the export does not name"
    for setting, pattern in selection.unmatched_patterns(evidence.known_names)[:MAX_LISTED_PATTERNS]:
        nearest = nearest_name(pattern, evidence.known_names)
        hint = "" if nearest is None else f"; the nearest name is {shown_name(nearest)}"
        yield _row("Without effect", f"{shown_name(pattern)} in {setting} matches no segment{hint}")
    if parsed.blank:
        yield _row("Blank names", f"left out for {parsed.blank:,} contacts")


def _snapshots(evidence: Evidence) -> str:
    if evidence.base is None:
        return "none; the first run emits every contact, and the guards on shrinkage have nothing to compare with"
    return (
        f"{evidence.snapshots:,}; compared with that of {evidence.base.timestamp}, which holds {evidence.base.contacts:,} contacts"
    )


def _catalogue(evidence: Evidence) -> str:
    if evidence.settings.api_token is None:
        return "not read: api_token is not set"
    if evidence.catalogue_error is not None:
        return f"not read: {evidence.catalogue_error}"
    return f"{len(evidence.catalogue):,} segments"


def _row(label: str, text: str) -> str:
    return f"  {label:<{LABEL_WIDTH}}  {text}"
