"""Test the assumptions about how Nosto delivers the export."""

from __future__ import annotations

import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from tap_nosto_segments.checking.verdict import Finding, compared, not_tested
from tap_nosto_segments.errors import ExportDamagedError, SettingsError, SnapshotError
from tap_nosto_segments.nosto.client import TRANSIENT_STATUSES
from tap_nosto_segments.nosto.exchange import origin_of
from tap_nosto_segments.nosto.export import NOT_READY_STATUSES, REJECTED_TOKEN_STATUSES
from tap_nosto_segments.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tap_nosto_segments.checking.evidence import Evidence
    from tap_nosto_segments.nosto.exchange import Exchange
    from tap_nosto_segments.nosto.export import Export

NO_HTTP = "export_url is not an http address"
NO_FILE = "the export did not arrive"
PLAUSIBLE_TYPES = ("json", "text/plain", "application/octet-stream", "application/gzip", "application/x-gzip")
DEFAULT_MAX_AGE_HOURS = 48
MAX_LISTED_LINKS = 3
# a Last-Modified that is no older than this is the time of the request itself
MIN_PLAUSIBLE_AGE = datetime.timedelta(seconds=5)


def why_not_export(evidence: Evidence) -> str | None:
    """Return why there is no content to judge; None if there is."""
    if evidence.download.export is None or evidence.content is None:
        return NO_FILE
    if evidence.content.head.links:
        return "the answer is JSON with a link, not the export"
    if evidence.content.head.is_web_page:
        return "the answer is a web page, not the export"
    return None


def _token_opens_export(evidence: Evidence, last: Exchange) -> Finding:
    method = evidence.settings.export_auth
    expected = f"status 200 with export_auth {method}"
    if method == "none":
        return not_tested("export_auth is none, so no token was sent")
    if last.status in REJECTED_TOKEN_STATUSES:
        elsewhere = last.origin != origin_of(evidence.settings.export_url)
        where = f" from {last.origin}, to which no token is sent" if elsewhere else ""
        return compared(holds=False, expected=expected, seen=f"status {last.status}{where}")
    if last.status != HTTPStatus.OK:
        return not_tested(f"the address answered with status {last.status}")
    if evidence.content is not None and evidence.content.head.is_web_page:
        return not_tested("the answer is a web page, not the export")
    return compared(holds=True, expected=expected, seen="status 200")


def _export_exists(_: Evidence, last: Exchange) -> Finding:
    if last.status in NOT_READY_STATUSES:
        return compared(holds=False, expected="status 200", seen=f"status {last.status}")
    if last.status != HTTPStatus.OK:
        return not_tested(f"the address answered with status {last.status}")
    return compared(holds=True, expected="status 200", seen="status 200")


def _answer_is_export(evidence: Evidence, last: Exchange) -> Finding:
    expected = "a file that begins with a record"
    if last.status in {*REJECTED_TOKEN_STATUSES, *NOT_READY_STATUSES, *TRANSIENT_STATUSES} or last.redirects_to is not None:
        return not_tested(f"the address answered with status {last.status}")
    if last.status != HTTPStatus.OK:
        return compared(holds=False, expected="status 200", seen=f"status {last.status}")
    if evidence.content is None:
        if isinstance(evidence.download.failure, ExportDamagedError) and _is_link_missing(evidence):
            return compared(holds=False, expected=expected, seen="an answer without a link at export_link_pointer")
        return not_tested(NO_FILE)
    links = evidence.content.head.links[:MAX_LISTED_LINKS]
    seen = "a web page" if evidence.content.head.is_web_page else "a file"
    if links:
        seen = f"JSON with a link; candidates for export_link_pointer: {', '.join(map(printable, links))}"
    return compared(holds=why_not_export(evidence) is None, expected=expected, seen=seen)


def _is_link_missing(evidence: Evidence) -> bool:
    """Return whether only the first of two requests was made, that for the link."""
    files = [exchange for exchange in evidence.download.exchanges if exchange.redirects_to is None]
    return evidence.settings.export_link_pointer is not None and len(files) == 1


def _redirects_are_secure(evidence: Evidence, last: Exchange) -> Finding:
    targets = [exchange.redirects_to for exchange in evidence.download.exchanges if exchange.redirects_to]
    if last.redirects_to and isinstance(evidence.download.failure, SettingsError):
        return compared(holds=False, expected="redirects to https", seen=f"a redirect to {last.redirects_to}")
    if isinstance(evidence.download.failure, SettingsError):
        return compared(holds=False, expected="a link to an https address", seen="a link to another address")
    return compared(holds=True, expected="redirects to https", seen=", ".join(targets) if targets else "no redirect")


def _served_by_configured_host(evidence: Evidence, last: Exchange) -> Finding:
    if evidence.download.export is None:
        return not_tested(NO_FILE)
    ours = origin_of(evidence.settings.export_url)
    return compared(holds=last.origin == ours, expected=ours, seen=last.origin)


def _arrives_complete(evidence: Evidence) -> Finding:
    download = evidence.download
    if download.export is None:
        return _broken_transfer(evidence)
    reason = why_not_export(evidence)
    head = evidence.content.head if evidence.content else None
    if reason is None and head and (head.other_format is not None or (head.lines and not head.objects)):
        reason = "the file does not hold JSON lines, so its last line shows nothing"
    if reason is not None:
        return not_tested(reason)
    end = "ends in the middle of a line" if download.failure is not None else "ends with a complete line"
    expected = "all bytes, and a complete last line"
    return compared(holds=download.failure is None, expected=expected, seen=f"{download.export.received:,} bytes; the file {end}")


def _broken_transfer(evidence: Evidence) -> Finding:
    download, last = evidence.download, evidence.last
    if isinstance(download.failure, ExportDamagedError) and last is None:
        return compared(holds=False, expected="intact gzip data", seen="damaged gzip data")
    is_other = isinstance(download.failure, (SettingsError, SnapshotError)) or _is_link_missing(evidence)
    if last is None or last.status != HTTPStatus.OK or is_other:
        return not_tested(NO_FILE)
    expected = "the whole file" if last.length is None else f"{last.length:,} bytes"
    seen = f"the transfer ended early or was damaged; {download.lines_so_far:,} lines had arrived"
    return compared(holds=False, expected=expected, seen=seen)


def _length_is_announced(_: Evidence, last: Exchange, export: Export) -> Finding:
    expected = "Content-Length, chunked transfer or gzip"
    if last.length is not None:
        return compared(holds=True, expected=expected, seen=f"Content-Length {last.length:,}")
    seen = "chunked transfer" if last.is_chunked else "gzip" if export.is_gzip else "none of them"
    return compared(holds=last.is_chunked or export.is_gzip, expected=expected, seen=seen)


def _content_type_is_json(_: Evidence, last: Exchange, _export: Export) -> Finding:
    seen = last.content_type
    return compared(
        holds=any(kind in seen for kind in PLAUSIBLE_TYPES), expected="JSON, plain text or binary", seen=seen or "no content type"
    )


def _encoding_is_labelled_correctly(_: Evidence, last: Exchange, export: Export) -> Finding:
    label = last.content_encoding or "none"
    is_labelled = "gzip" in label
    seen = f"Content-Encoding: {label}, and {'gzip' if export.is_gzip else 'plain text'}"
    # a file that is itself compressed (.gz) needs no label
    return compared(holds=export.is_gzip or not is_labelled, expected="gzip if it is labelled so", seen=seen)


def _etag_is_sent(_: Evidence, last: Exchange, _export: Export) -> Finding:
    return compared(holds=last.etag is not None, expected="an ETag", seen="an ETag" if last.etag else "none")


def _last_modified_is_sent(evidence: Evidence, last: Exchange, export: Export) -> Finding:
    expected = "a Last-Modified date before the request"
    if export.made_at is None:
        return compared(holds=False, expected=expected, seen="an invalid date" if last.last_modified else "none")
    is_request_time = export.made_at >= evidence.now.replace(microsecond=0) - MIN_PLAUSIBLE_AGE
    seen = "the time of the request" if is_request_time else _utc(export.made_at)
    return compared(holds=not is_request_time, expected=expected, seen=seen)


def _unchanged_export_is_recognised(evidence: Evidence, _last: Exchange, export: Export) -> Finding:
    if not export.validators.headers():
        return not_tested("the answer has neither an ETag nor a Last-Modified date")
    is_recognised = evidence.download.is_unchanged_recognised
    if is_recognised is None:
        return not_tested("the repeated request failed")
    return compared(holds=is_recognised, expected="status 304", seen="status 304" if is_recognised else "the whole file again")


def _changed_export_gets_new_etag(evidence: Evidence, _last: Exchange, export: Export) -> Finding:
    newest, etag = evidence.newest, export.validators.etag
    if newest is None or newest.etag is None or etag is None or newest.export_digest == export.digest:
        return not_tested("there is no snapshot of another export with an ETag")
    return compared(
        holds=newest.etag != etag, expected="another ETag", seen="the same ETag" if newest.etag == etag else "another ETag"
    )


def _made_daily(evidence: Evidence) -> Finding:
    export = evidence.download.export
    if export is None:
        return not_tested(NO_FILE)
    if export.made_at is None:
        return not_tested("the age of the export is unknown")
    max_hours = evidence.settings.max_export_age_hours or DEFAULT_MAX_AGE_HOURS
    hours = (evidence.now - export.made_at).total_seconds() / 3600
    return compared(holds=hours <= max_hours, expected=f"at most {max_hours} hours old", seen=f"{max(0, hours):,.1f} hours old")


def _utc(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _of_response(test: Callable[[Evidence, Exchange], Finding]) -> Callable[[Evidence], Finding]:
    """Return a test that needs a response."""

    def run(evidence: Evidence) -> Finding:
        if not evidence.is_http:
            return not_tested(NO_HTTP)
        return not_tested("the address did not answer") if evidence.last is None else test(evidence, evidence.last)

    return run


def _of_file(test: Callable[[Evidence, Exchange, Export], Finding]) -> Callable[[Evidence], Finding]:
    """Return a test that needs a downloaded export."""

    def run(evidence: Evidence) -> Finding:
        if not evidence.is_http:
            return not_tested(NO_HTTP)
        last, export, reason = evidence.last, evidence.download.export, why_not_export(evidence)
        if last is None or export is None or reason is not None:
            return not_tested(reason or NO_FILE)
        return test(evidence, last, export)

    return run


TESTS: Mapping[str, Callable[[Evidence], Finding]] = {
    "token_opens_export": _of_response(_token_opens_export),
    "export_exists": _of_response(_export_exists),
    "answer_is_export": _of_response(_answer_is_export),
    "redirects_are_secure": _of_response(_redirects_are_secure),
    "served_by_configured_host": _of_response(_served_by_configured_host),
    "arrives_complete": _arrives_complete,
    "length_is_announced": _of_file(_length_is_announced),
    "content_type_is_json": _of_file(_content_type_is_json),
    "encoding_is_labelled_correctly": _of_file(_encoding_is_labelled_correctly),
    "etag_is_sent": _of_file(_etag_is_sent),
    "last_modified_is_sent": _of_file(_last_modified_is_sent),
    "unchanged_export_is_recognised": _of_file(_unchanged_export_is_recognised),
    "changed_export_gets_new_etag": _of_file(_changed_export_gets_new_etag),
    "made_daily": _made_daily,
}
