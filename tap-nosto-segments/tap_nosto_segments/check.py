"""The commands `check` and `try-auth`: what a run would find at Nosto, and which form of authorisation opens the export.

They store and emit nothing, and show counts and names of segments, never an address, a token or a signed URL; except that
`check --find` shows the content of the export for the given address.
"""

from __future__ import annotations

import contextlib
import datetime
import tempfile
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import click
import requests

from tap_nosto_segments import guards
from tap_nosto_segments.assumptions import ASSUMPTIONS, Assumption, Evidence, Finding, Outcome
from tap_nosto_segments.errors import ExportUnavailableError, SettingsError, TapError
from tap_nosto_segments.guards import Candidate, date_export, has_same_selection, match_catalogue
from tap_nosto_segments.nosto.catalogue import read_catalogue
from tap_nosto_segments.nosto.client import (
    TRANSPORT_ERRORS,
    Credential,
    NostoClient,
    ResponseInfo,
    TransientStatusError,
    is_http,
    origin_of,
)
from tap_nosto_segments.nosto.export import EXPORT_NAME, GZIP_MAGIC, REJECTED_TOKEN_STATUSES, Export, Validators, fetch_export
from tap_nosto_segments.settings import AUTH_METHODS, HEADER_NAME
from tap_nosto_segments.snapshots.database import connect, explain_storage_errors
from tap_nosto_segments.snapshots.parser import (
    WEB_PAGE,
    FoundContact,
    ParsedExport,
    count_lines,
    count_without_segments,
    enumerate_keys,
    find_contact,
    parse_export,
    read_head,
    require_complete_last_line,
    require_json_lines,
)
from tap_nosto_segments.snapshots.store import SnapshotStore, open_store
from tap_nosto_segments.text import nearest_name, printable, shown_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tap_nosto_segments.settings import Settings
    from tap_nosto_segments.tap import TapNostoSegments

HEAD_BYTES = 1 << 12
MAX_LISTED_SEGMENTS = 200
MAX_LISTED_PATTERNS = 10
MAX_LINE_CHARACTERS = 10_000
LABEL_WIDTH = 20
INDENT = " " * 14


def check_source(tap: TapNostoSegments, email: str | None = None) -> None:
    """Print what a run of this tap would find, and the verdict on each assumption about Nosto.

    Args:
        tap: the tap, with its settings, catalog and state.
        email: an address to look for in the export.

    Raises:
        TapError: a run would stop, for this reason.
    """
    tap.require_safe_maps()
    evidence, contact = _collect(tap, email)
    findings = [(assumption, assumption.test(evidence)) for assumption in ASSUMPTIONS]
    _print([*_show_evidence(evidence), "", *_show_findings(findings), ""])
    if email is not None:
        _print([*_show_contact(evidence, email, contact), ""])
    if evidence.failure is not None:
        raise evidence.failure
    refuted = sum(finding.outcome is Outcome.REFUTED for _, finding in findings)
    remark = f" {refuted} assumption{'s are' if refuted > 1 else ' is'} refuted: see above what that means." if refuted else ""
    _print([f"OK: a run would pass its guards. Nothing was stored or emitted.{remark}"])


def _collect(tap: TapNostoSegments, email: str | None) -> tuple[Evidence, FoundContact | None]:
    """Fetch the export as a run would, without storing anything, and pass it through the guards of a run.

    The complete export is read: the guards judge its totals, so a part of it would not show what a run does.

    Raises:
        SnapshotError: the snapshot folder cannot be read, or the disk is full.
    """
    settings, now = tap.settings, tap.now()
    store = open_store(settings.snapshot_uri, is_read_only=True)
    responses: list[ResponseInfo] = []

    def observe(url: str, response: ResponseInfo) -> None:
        if url == settings.export_url:
            responses.clear()  # another attempt
        responses.append(response)

    client = NostoClient(settings.request_timeout, tap.sleep, observe)
    head = parsed = damage = unreadable = contact = export = None
    without_segments = lines_so_far = 0
    with explain_storage_errors("checked"), tempfile.TemporaryDirectory(prefix="tap-nosto-segments-") as name:
        folder = Path(name)
        try:
            export = fetch_export(client, settings.export_source, folder, Validators())
            if export is None:
                msg = "Nosto answered that the export has not changed, without having been asked for changes. Check export_url."
                raise ExportUnavailableError(msg)
            require_json_lines(export.path, export.content_encoding)
            require_complete_last_line(export.path, export.size)
        except TapError as error:
            damage = error
            lines_so_far = count_lines(folder / EXPORT_NAME)
        if export is not None:
            head = read_head(export.path, export.content_encoding)
            with contextlib.closing(connect(folder)) as database:
                try:
                    parsed = parse_export(database, export.path, settings.segment_identifier)
                    without_segments = count_without_segments(database)
                    contact = find_contact(database, export.path, email) if email is not None else None
                except TapError as error:
                    unreadable = error
    base, newest = store.base_of(tap.bookmarks), store.newest()
    fetched = tuple(responses)
    catalogue, catalogue_error = read_catalogue(client, settings.graphql_url, settings.api_token, base.catalogue if base else {})
    failure = damage
    if export is not None and failure is None:
        failure = _judge(tap, export, parsed or unreadable, catalogue, store)
    if failure is None and tap.needs_catalogue:
        failure = catalogue_error
    evidence = Evidence(
        settings=settings,
        now=now,
        responses=fetched,
        export=export,
        lines_so_far=lines_so_far,
        damage=damage,
        head=head,
        parsed=parsed,
        without_segments=without_segments,
        catalogue=catalogue,
        catalogue_error=catalogue_error,
        base=base,
        newest=newest,
        snapshots=len(store),
        failure=failure,
    )
    return evidence, contact


def _judge(
    tap: TapNostoSegments,
    export: Export,
    parsed: ParsedExport | TapError | None,
    catalogue: Mapping[str, str],
    store: SnapshotStore,
) -> TapError | None:
    """Return why a run would stop, in the order in which a run finds out."""
    settings, now, base, newest = tap.settings, tap.now(), store.base_of(tap.bookmarks), store.newest()
    try:
        guards.require_fresh(settings, export.made_at, now)
        if newest is not None and newest.export_digest == export.digest and has_same_selection(settings, tap.maps_digest, newest):
            selection = settings.selection.among(newest.segment_names)
            guards.require_chosen_segment(selection, newest.contacts, newest.counts, newest.segment_names)
        elif isinstance(parsed, ParsedExport):
            exported_at = date_export(export, newest, now)
            candidate = Candidate(parsed, export.digest, exported_at, match_catalogue(catalogue, base, parsed.counts), base, newest)
            guards.require_acceptable(settings, candidate, now.date())
        else:
            return parsed
    except TapError as error:
        return error
    return None


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _row(label: str, text: str) -> str:
    return f"  {label:<{LABEL_WIDTH}}  {text}"


def _show_evidence(evidence: Evidence) -> Iterator[str]:
    yield "Export"
    yield from _show_delivery(evidence)
    if evidence.not_an_export is None:
        yield from ("", "Records", *_show_records(evidence))
        if evidence.parsed is not None:
            yield from ("", *_show_segments(evidence, evidence.parsed))
    yield from ("", "Comparison", _row("Snapshots", _snapshots(evidence)), _row("Catalogue", _catalogue(evidence)))


def _show_delivery(evidence: Evidence) -> Iterator[str]:
    for response in evidence.responses:
        target = f", redirects to {response.redirects_to}" if response.redirects_to else ""
        yield _row("Address", f"{response.origin}: status {response.status}{target}")
    if not evidence.responses:
        yield _row("Address", "no answer" if evidence.is_http else "a file, not an http address")
    else:
        last = evidence.responses[-1]
        yield _row("Content type", last.content_type or "not sent")
        yield _row("Content encoding", last.content_encoding or "none")
        yield _row("Length", "not announced" if last.length is None else f"{last.length:,} bytes announced")
        yield _row("ETag", "sent" if last.etag else "not sent")
        yield _row("Last-Modified", printable(last.last_modified or "not sent"))
    export = evidence.export
    if export is None:
        yield _row("Read", f"{evidence.lines_so_far:,} lines so far; the export did not arrive completely")
        return
    form = f"gzip, {export.size:,} bytes decompressed" if export.is_gzip else "not compressed"
    part = "the complete export" if evidence.damage is None else "everything that was sent, which is not a complete export"
    yield _row("Read", f"{part}: {export.received:,} bytes ({form})")
    yield _row("Age", _age(evidence.now, export.made_at))


def _age(now: datetime.datetime, made_at: datetime.datetime | None) -> str:
    if made_at is None:
        return "unknown: max_export_age_hours has no effect"
    hours = max(0.0, (now - made_at).total_seconds() / 3600)
    return f"{hours:,.1f} hours (made {made_at.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC)"


def _show_records(evidence: Evidence) -> Iterator[str]:
    head, parsed, identifier = evidence.head, evidence.parsed, evidence.settings.segment_identifier
    if head is None:
        return
    yield _row("Keys", f"{enumerate_keys(head.keys.records) or 'none'} (in the first {head.lines:,} lines)")
    yield _row("Lists of names", enumerate_keys(head.keys.candidates) or "none")
    yield _row("segment_identifier", enumerate_keys([identifier]) if identifier else "not set, so it is detected")
    if parsed is None:
        yield _row("Lines", f"{head.lines:,} so far; the names cannot be read")
        return
    yield _row("Lines", f"{parsed.lines:,}, of which {parsed.invalid:,} are malformed and {parsed.duplicates:,} are duplicates")
    yield _row("Contacts", f"{parsed.contacts:,}, of which {evidence.without_segments:,} are in no segment")


def _show_segments(evidence: Evidence, parsed: ParsedExport) -> Iterator[str]:
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
        yield f"  and {len(known) - len(counts):,} in Nosto's catalogue that are not in the export"
    for setting, pattern in selection.unmatched_patterns(evidence.known_names)[:MAX_LISTED_PATTERNS]:
        nearest = nearest_name(pattern, evidence.known_names)
        hint = "" if nearest is None else f"; the nearest name is {shown_name(nearest)}"
        yield _row("Without effect", f"{shown_name(pattern)} in {setting} matches no segment{hint}")
    if parsed.blank:
        yield _row("Blank names", f"left out for {parsed.blank:,} contacts")


def _snapshots(evidence: Evidence) -> str:
    base = evidence.base
    if base is None:
        return "none; the first run emits every contact, and the guards on shrinkage have nothing to compare with"
    return f"{evidence.snapshots:,}; compared with that of {base.timestamp}, which holds {base.contacts:,} contacts"


def _catalogue(evidence: Evidence) -> str:
    if evidence.settings.api_token is None:
        return "not read: api_token is not set"
    return f"{len(evidence.catalogue):,} segments" if evidence.catalogue_error is None else f"not read: {evidence.catalogue_error}"


def _show_findings(findings: Sequence[tuple[Assumption, Finding]]) -> Iterator[str]:
    """Return the lines that say which assumptions hold; the refuted ones come last, where they are seen first."""
    numbers = {outcome: sum(finding.outcome is outcome for _, finding in findings) for outcome in Outcome}
    yield "Assumptions: " + ", ".join(f"{number} {outcome}" for outcome, number in numbers.items())
    for assumption, finding in findings:
        if finding.outcome is Outcome.CONFIRMED:
            yield f"  confirmed   {assumption.id}: {assumption.statement} Seen: {finding.seen}."
    by_reason: dict[str, list[str]] = {}
    for assumption, finding in findings:
        if finding.outcome is Outcome.NOT_TESTED:
            by_reason.setdefault(finding.reason, []).append(assumption.id)
    for reason, ids in by_reason.items():
        yield f"  not tested  {', '.join(ids)}"
        yield f"{INDENT}because: {reason}"
    for assumption, finding in findings:
        if finding.outcome is Outcome.REFUTED:
            yield f"  REFUTED     {assumption.id}: {assumption.statement}"
            yield f"{INDENT}expected: {finding.expected}"
            yield f"{INDENT}seen: {finding.seen}"
            yield f"{INDENT}what a run does: {assumption.if_wrong}"
            yield f"{INDENT}what to do: {assumption.remedy}"


def _show_contact(evidence: Evidence, email: str, contact: FoundContact | None) -> Iterator[str]:
    yield "Contact"
    yield _row("Searched for", printable(email, MAX_LINE_CHARACTERS))
    if contact is None:
        yield _row("Result", "the export cannot be read")
        return
    for line in contact.lines:
        yield _row("Line", printable(line, MAX_LINE_CHARACTERS))
    if contact.malformed_lines:
        yield _row("Malformed lines", f"{contact.malformed_lines:,} with this address: the contact keeps the segments last known")
    yield _row("Normalised address", printable(contact.email, MAX_LINE_CHARACTERS))
    if contact.names is None:
        yield _row("Segments", "unknown" if contact.malformed_lines else "none: the address is not in the export")
        return
    selection = evidence.settings.selection.among(evidence.known_names)
    yield _row("Segments", ", ".join(repr(printable(name)) for name in contact.names) or "none")
    yield _row("Chosen", ", ".join(repr(printable(name)) for name in selection.chosen(contact.names)) or "none")


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of one form of authorisation.

    Args:
        method: value for export_auth.
        opened: whether the file was opened.
        seen: what was answered, or why the form was not tried.
    """

    method: str
    opened: bool
    seen: str


def try_authorisation(settings: Settings) -> None:
    """Request the export once with each form of authorisation, read no more than its beginning, and print the result.

    The token is sent to the host of export_url only; a redirect to another host is not followed.

    Raises:
        SettingsError: export_url is not an http address, or there is no token.
        ExportUnavailableError: no form opened the export.
    """
    if not is_http(settings.export_url):
        msg = "try-auth needs an https address in export_url, but the export is a file: no authorisation was tried."
        raise SettingsError(msg)
    if not settings.export_token:
        msg = "try-auth needs export_token, which is not set: no authorisation was tried. Set it."
        raise SettingsError(msg)
    # a client per attempt, so that a cookie of one response cannot open the file for the next attempt
    attempts = [_try(settings, NostoClient(settings.request_timeout), method) for method in AUTH_METHODS]
    _print(["Authorisation"])
    for attempt in attempts:
        label = attempt.method + (" (configured)" if attempt.method == settings.export_auth else "")
        _print([_row(label, attempt.seen)])
    opened = [attempt.method for attempt in attempts if attempt.opened]
    if not opened:
        msg = "No form of authorisation opened the export. Check export_token, and export_auth_name for header and query."
        raise ExportUnavailableError(msg)
    advice = f"set export_auth to {' or '.join(opened)}"
    if "none" in opened:
        advice = "the address needs no token: set export_auth to none"
    elif settings.export_auth in opened:
        advice = f"export_auth is correct: {settings.export_auth} opened the file"
    _print([_row("Result", advice)])


def _try(settings: Settings, client: NostoClient, method: str) -> Attempt:
    name = settings.export_auth_name
    if method in {"header", "query"} and not name:
        return Attempt(method, opened=False, seen="not tried: it needs export_auth_name")
    if method == "header" and not HEADER_NAME.fullmatch(name or ""):
        return Attempt(method, opened=False, seen="not tried: export_auth_name is not a valid header name")
    credential = Credential(settings.export_url, method, name, settings.export_token)
    try:
        with client.get(settings.export_url, credential, {"Accept-Encoding": "identity"}, stays_on_origin=True) as response:
            return _judge_response(method, response, has_link=settings.export_link_pointer is not None)
    except TransientStatusError as error:
        return Attempt(method, opened=False, seen=f"status {error.status}: temporarily unavailable")
    except (*TRANSPORT_ERRORS, requests.RequestException) as error:
        return Attempt(method, opened=False, seen=f"no answer ({type(error).__name__})")
    except TapError as error:
        return Attempt(method, opened=False, seen=str(error))


def _judge_response(method: str, response: requests.Response, *, has_link: bool) -> Attempt:
    status = response.status_code
    if response.is_redirect:
        target = origin_of(response.headers["Location"])
        return Attempt(method, opened=True, seen=f"status {status}: accepted, and redirected to {target}, which was not followed")
    if status in REJECTED_TOKEN_STATUSES:
        return Attempt(method, opened=False, seen=f"status {status}: refused")
    if status != HTTPStatus.OK:
        return Attempt(method, opened=False, seen=f"status {status}: not the file")
    head = response.raw.read(HEAD_BYTES, decode_content=False)
    if WEB_PAGE.match(head):
        return Attempt(method, opened=False, seen="status 200: a web page, probably for logging in")
    if not head or head.startswith(GZIP_MAGIC) or b'"email"' in head or has_link:
        return Attempt(method, opened=True, seen="status 200: opened the file")
    return Attempt(method, opened=False, seen="status 200: an answer that does not begin with a record")
