"""What the tap assumes about Nosto: each assumption beside the function that tests it on the evidence of the command `check`.

Assumptions that no request can test are questions for a person, in docs/going-live.md.
"""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from tap_nosto_segments.errors import ExportDamagedError, SettingsError, SnapshotError
from tap_nosto_segments.guards import SEGMENT_ID, has_shrunk
from tap_nosto_segments.nosto.client import TRANSIENT_STATUSES, ResponseInfo, is_http, origin_of
from tap_nosto_segments.nosto.export import NOT_READY_STATUSES, REJECTED_TOKEN_STATUSES, Export
from tap_nosto_segments.snapshots.parser import Head, ParsedExport, enumerate_keys
from tap_nosto_segments.text import enumerated, printable, shown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from tap_nosto_segments.errors import CatalogueError, TapError
    from tap_nosto_segments.settings import Settings
    from tap_nosto_segments.snapshots.store import Manifest

Subject = TypeVar("Subject")

HELP = ("A", "Nosto's help page on the Segment Export")
GRAPHQL = ("A", "Nosto's developer documentation, GraphQL")
UNDOCUMENTED = ("D", "not documented")

NO_HTTP = "export_url is not an http address"
NO_FILE = "the export did not arrive"
DEFAULT_MAX_AGE_HOURS = 48
MAX_LISTED_LINKS = 3
MAX_LISTED_NAMES = 5
# a Last-Modified at most this old is the time of the request itself
MIN_PLAUSIBLE_AGE = datetime.timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence that the check has collected.

    Args:
        settings: the settings.
        now: when the check started, in UTC.
        responses: the responses of the last attempt; none if nothing answered, or if the export is not fetched over HTTP.
        export: the export; None if it did not arrive.
        lines_so_far: complete lines that had arrived when the download failed.
        damage: why the export did not arrive, or is not complete JSON lines.
        head: its first lines; None if it did not arrive.
        parsed: its numbers; None if it cannot be read.
        without_segments: contacts that are in no segment.
        catalogue: ID -> name of Nosto's segments; empty if unknown.
        catalogue_error: why the catalogue could not be read.
        base: the snapshot that a run would compare with; None if there is none.
        newest: the snapshot that was written last; None if there is none.
        snapshots: number of snapshots.
        failure: why a run would stop; None if it would pass its guards.
    """

    settings: Settings
    now: datetime.datetime
    responses: tuple[ResponseInfo, ...]
    export: Export | None
    lines_so_far: int
    damage: TapError | None
    head: Head | None
    parsed: ParsedExport | None
    without_segments: int
    catalogue: Mapping[str, str]
    catalogue_error: CatalogueError | None
    base: Manifest | None
    newest: Manifest | None
    snapshots: int
    failure: TapError | None

    @property
    def is_http(self) -> bool:
        """Whether the export is fetched over HTTP."""
        return is_http(self.settings.export_url)

    @property
    def counts(self) -> Mapping[str, int]:
        """Segment name -> number of contacts, for every segment in the export."""
        return self.parsed.counts if self.parsed else {}

    @property
    def known_names(self) -> set[str]:
        """Every segment known to exist."""
        return {*self.counts, *self.catalogue.values(), *(self.base.segment_names if self.base else ())}

    @property
    def not_an_export(self) -> str | None:
        """Why there is no content to judge; None if there is."""
        if self.export is None or self.head is None:
            return NO_FILE
        if self.head.links:
            return "the answer is JSON with a link, not the export"
        return "the answer is a web page, not the export" if self.head.is_web_page else None


class Outcome(StrEnum):
    """How the test of an assumption ended."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of testing an assumption.

    Args:
        outcome: how it ended.
        expected: what the assumption predicts; empty if it was not tested.
        seen: what was seen; empty if it was not tested.
        reason: why it was not tested; empty otherwise.
    """

    outcome: Outcome
    expected: str = ""
    seen: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Assumption:
    """Something that the tap expects of Nosto.

    Args:
        id: stable name, in snake_case: that of the function.
        statement: what is assumed.
        grade: A: Nosto's documentation says so; D: our inference.
        source: where it is documented.
        if_wrong: what a run does if the assumption is wrong.
        remedy: what the operator has to do then.
        test: tests it on the evidence.
    """

    id: str
    statement: str
    grade: str
    source: str
    if_wrong: str
    remedy: str
    test: Callable[[Evidence], Finding]


ASSUMPTIONS: list[Assumption] = []


def compared(*, holds: bool, expected: str, seen: str) -> Finding:
    """Return the finding of a comparison."""
    return Finding(Outcome.CONFIRMED if holds else Outcome.REFUTED, expected, seen)


def not_tested(reason: str) -> Finding:
    """Return the finding that an assumption was not tested."""
    return Finding(Outcome.NOT_TESTED, reason=reason)


def _assume(
    statement: str, source: tuple[str, str], *, if_wrong: str, remedy: str, needs: Callable[[Evidence], Subject | str]
) -> Callable[[Callable[[Evidence, Subject], Finding]], Callable[[Evidence, Subject], Finding]]:
    """Register the assumption that the decorated function tests.

    Args:
        statement: what is assumed.
        source: grade and source.
        if_wrong: what a run does if the assumption is wrong.
        remedy: what the operator has to do then.
        needs: returns what the function tests, or why it cannot be tested.
    """

    def register(test: Callable[[Evidence, Subject], Finding]) -> Callable[[Evidence, Subject], Finding]:
        def run(evidence: Evidence) -> Finding:
            subject = needs(evidence)
            return not_tested(subject) if isinstance(subject, str) else test(evidence, subject)

        ASSUMPTIONS.append(Assumption(test.__name__, statement, *source, if_wrong, remedy, run))
        return test

    return register


def _response(evidence: Evidence) -> ResponseInfo | str:
    """Return the last response to the request for the export."""
    if not evidence.is_http:
        return NO_HTTP
    return evidence.responses[-1] if evidence.responses else "the address did not answer"


def _download(evidence: Evidence) -> tuple[ResponseInfo, Export] | str:
    """Return the last response and the export that it carried."""
    last, export = _response(evidence), evidence.export
    if isinstance(last, str):
        return last
    return evidence.not_an_export or NO_FILE if evidence.not_an_export or export is None else (last, export)


def _head(evidence: Evidence) -> Head | str:
    """Return the first lines of an export, which may be empty."""
    return evidence.not_an_export or evidence.head or NO_FILE


def _lines(evidence: Evidence) -> Head | str:
    head = _head(evidence)
    return "the export is empty" if isinstance(head, Head) and not head.lines else head


def _records(evidence: Evidence) -> Head | str:
    head = _lines(evidence)
    return "the export has no records" if isinstance(head, Head) and not head.keys.records else head


def _contacts(evidence: Evidence) -> ParsedExport | str:
    head = _lines(evidence)
    if isinstance(head, str):
        return head
    return evidence.parsed if evidence.parsed and evidence.parsed.contacts else "no contact could be read"


def _catalogue(evidence: Evidence) -> Mapping[str, str] | str:
    if evidence.settings.api_token is None:
        return "api_token is not set"
    return evidence.catalogue if evidence.catalogue_error is None else "the catalogue was not read"


@_assume(
    "The integration token, sent as export_auth says, opens the export.",
    UNDOCUMENTED,
    if_wrong="Every run fails before its first message, with the status that Nosto returned.",
    remedy="Correct export_token, or set export_auth to the form that the command try-auth finds.",
    needs=_response,
)
def token_opens_export(evidence: Evidence, last: ResponseInfo) -> Finding:  # noqa: D103 - the statement says it, here and below
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
    if evidence.head is not None and evidence.head.is_web_page:
        return not_tested("the answer is a web page, not the export")
    return compared(holds=True, expected=expected, seen="status 200")


@_assume(
    "Nosto has made an export: the first one follows within 24 hours of enabling.",
    HELP,
    if_wrong="Every run fails before its first message, and says that there is no export yet.",
    remedy="Wait for a day after enabling the export. If it was enabled earlier, correct export_url.",
    needs=_response,
)
def export_exists(_: Evidence, last: ResponseInfo) -> Finding:  # noqa: D103
    if last.status != HTTPStatus.OK and last.status not in NOT_READY_STATUSES:
        return not_tested(f"the address answered with status {last.status}")
    return compared(holds=last.status == HTTPStatus.OK, expected="status 200", seen=f"status {last.status}")


@_assume(
    "A GET request to export_url is answered with the export itself, perhaps after redirects.",
    UNDOCUMENTED,
    if_wrong="Every run fails before its first message, because the answer has no records with addresses and names.",
    remedy="Correct export_url and export_auth. For a link in JSON, set export_link_pointer to the pointer that the check shows.",
    needs=_response,
)
def answer_is_export(evidence: Evidence, last: ResponseInfo) -> Finding:  # noqa: D103
    expected, head = "a file that begins with a record", evidence.head
    if last.status in {*REJECTED_TOKEN_STATUSES, *NOT_READY_STATUSES, *TRANSIENT_STATUSES} or last.redirects_to is not None:
        return not_tested(f"the address answered with status {last.status}")
    if last.status != HTTPStatus.OK:
        return compared(holds=False, expected="status 200", seen=f"status {last.status}")
    if head is None:
        if isinstance(evidence.damage, ExportDamagedError) and _is_link_missing(evidence):
            return compared(holds=False, expected=expected, seen="an answer without a link at export_link_pointer")
        return not_tested(NO_FILE)
    seen = "a web page" if head.is_web_page else "a file"
    if head.links:
        links = ", ".join(map(printable, head.links[:MAX_LISTED_LINKS]))
        seen = f"JSON with a link; candidates for export_link_pointer: {links}"
    return compared(holds=evidence.not_an_export is None, expected=expected, seen=seen)


def _is_link_missing(evidence: Evidence) -> bool:
    """Return whether only the first of two requests was made, that for the link."""
    final = [response for response in evidence.responses if response.redirects_to is None]
    return evidence.settings.export_link_pointer is not None and len(final) == 1


@_assume(
    "Redirects lead to https addresses only.",
    UNDOCUMENTED,
    if_wrong="Every run fails before it sends anything to the unsafe address.",
    remedy="Do not activate. Ask Nosto's support for an https address.",
    needs=_response,
)
def redirects_are_secure(evidence: Evidence, last: ResponseInfo) -> Finding:  # noqa: D103
    if isinstance(evidence.damage, SettingsError):
        if last.redirects_to:
            return compared(holds=False, expected="redirects to https", seen=f"a redirect to {last.redirects_to}")
        return compared(holds=False, expected="a link to an https address", seen="a link to another address")
    targets = [response.redirects_to for response in evidence.responses if response.redirects_to]
    return compared(holds=True, expected="redirects to https", seen=", ".join(targets) if targets else "no redirect")


@_assume(
    "The file arrives completely: as long as announced, with an intact gzip checksum and a complete last line.",
    UNDOCUMENTED,
    if_wrong="Runs fail before their first message, after four attempts if the connection breaks off.",
    remedy="Run the check again later. If it is refuted again, send the request ID and the sizes to Nosto's support.",
    needs=lambda evidence: evidence,
)
def arrives_complete(evidence: Evidence, _: Evidence) -> Finding:  # noqa: D103
    if evidence.export is None:
        return _broken_transfer(evidence)
    reason, head = evidence.not_an_export, evidence.head
    if reason is None and head and (head.other_format is not None or (head.lines and not head.objects)):
        reason = "the file does not hold JSON lines, so its last line shows nothing"
    if reason is not None:
        return not_tested(reason)
    end = "ends with a complete line" if evidence.damage is None else "ends in the middle of a line"
    expected = "all bytes, and a complete last line"
    return compared(holds=evidence.damage is None, expected=expected, seen=f"{evidence.export.received:,} bytes; the file {end}")


def _broken_transfer(evidence: Evidence) -> Finding:
    last = evidence.responses[-1] if evidence.responses else None
    if last is None and isinstance(evidence.damage, ExportDamagedError):
        return compared(holds=False, expected="intact gzip data", seen="damaged gzip data")
    is_other = isinstance(evidence.damage, (SettingsError, SnapshotError)) or _is_link_missing(evidence)
    if last is None or last.status != HTTPStatus.OK or is_other:
        return not_tested(NO_FILE)
    expected = "the complete file" if last.length is None else f"{last.length:,} bytes"
    seen = f"the transfer ended early or was damaged; {evidence.lines_so_far:,} lines had arrived"
    return compared(holds=False, expected=expected, seen=seen)


@_assume(
    "The end of the file can be recognised: by Content-Length, chunked transfer or gzip.",
    UNDOCUMENTED,
    if_wrong="A download that breaks off exactly at the end of a line looks complete; only max_shrink_percent then stops the run.",
    remedy="Keep max_shrink_percent low.",
    needs=_download,
)
def length_is_announced(_: Evidence, download: tuple[ResponseInfo, Export]) -> Finding:  # noqa: D103
    last, export = download
    expected = "Content-Length, chunked transfer or gzip"
    if last.length is not None:
        return compared(holds=True, expected=expected, seen=f"Content-Length {last.length:,}")
    seen = "chunked transfer" if last.is_chunked else "gzip" if export.is_gzip else "none of them"
    return compared(holds=last.is_chunked or export.is_gzip, expected=expected, seen=seen)


@_assume(
    "Last-Modified is the time at which the export was made.",
    UNDOCUMENTED,
    if_wrong="The age of the export is unknown: max_export_age_hours cannot stop a run whose export is out of date. exported_at is then "
    "the time of the download.",
    remedy="Check in Nosto's admin from time to time that the export is still made every day.",
    needs=_download,
)
def last_modified_is_sent(evidence: Evidence, download: tuple[ResponseInfo, Export]) -> Finding:  # noqa: D103
    last, export = download
    expected = "a Last-Modified date before the request"
    if export.made_at is None:
        return compared(holds=False, expected=expected, seen="an invalid date" if last.last_modified else "none")
    is_request_time = export.made_at >= evidence.now.replace(microsecond=0) - MIN_PLAUSIBLE_AGE
    seen = "the time of the request" if is_request_time else f"{export.made_at.astimezone(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    return compared(holds=not is_request_time, expected=expected, seen=seen)


@_assume(
    "A new export has another ETag than the one before.",
    UNDOCUMENTED,
    if_wrong="Nosto answers 304 although the export has changed. The tap notices it by the Last-Modified header of that answer; without "
    "one, it downloads the complete export again after a day, or stops when the known one is older than max_export_age_hours.",
    remedy="Run once a day at most. Report it to Nosto's support.",
    needs=_download,
)
def changed_export_gets_new_etag(evidence: Evidence, download: tuple[ResponseInfo, Export]) -> Finding:  # noqa: D103
    newest, export = evidence.newest, download[1]
    etag = export.validators.etag
    if newest is None or newest.etag is None or etag is None or newest.export_digest == export.digest:
        return not_tested("there is no snapshot of another export with an ETag")
    is_other = newest.etag != etag
    return compared(holds=is_other, expected="another ETag", seen="another ETag" if is_other else "the same ETag")


@_assume(
    "Nosto makes the export once a day.",
    HELP,
    if_wrong="Runs fail before their first message as soon as the export is older than max_export_age_hours.",
    remedy="Find out in Nosto's admin why the export stopped. Raise max_export_age_hours only if Nosto makes it less often.",
    needs=lambda evidence: evidence.export or NO_FILE,
)
def made_daily(evidence: Evidence, export: Export) -> Finding:  # noqa: D103
    if export.made_at is None:
        return not_tested("the age of the export is unknown")
    max_hours = evidence.settings.max_export_age_hours or DEFAULT_MAX_AGE_HOURS
    hours = (evidence.now - export.made_at).total_seconds() / 3600
    return compared(holds=hours <= max_hours, expected=f"at most {max_hours} hours old", seen=f"{max(0, hours):,.1f} hours old")


@_assume(
    "The export of an account with customer data is not empty.",
    HELP,
    if_wrong="Runs fail before their first message, unless allow_empty_export is set.",
    remedy="Do not set allow_empty_export on a live account: an empty export removes every contact from every segment.",
    needs=_head,
)
def export_has_contacts(evidence: Evidence, head: Head) -> Finding:  # noqa: D103
    lines = evidence.parsed.lines if evidence.parsed else head.lines
    return compared(holds=lines > 0, expected="at least one line", seen=f"{lines:,} lines" if lines else "an empty file")


@_assume(
    "The export holds one JSON object per line.",
    HELP,
    if_wrong="Runs fail before their first message if more than max_invalid_lines lines are malformed.",
    remedy="Do not activate. If only a few lines are malformed, raise max_invalid_lines; their contacts then keep their segments.",
    needs=_lines,
)
def json_lines(evidence: Evidence, head: Head) -> Finding:  # noqa: D103
    expected, parsed = "a JSON object in each line", evidence.parsed
    if head.other_format is not None:
        return compared(holds=False, expected=expected, seen=head.other_format)
    # an incomplete last line is the fault of the transfer
    cut_lines = 1 if evidence.damage is not None else 0
    malformed = head.lines - head.objects - head.undecodable
    if malformed > cut_lines:
        return compared(holds=False, expected=expected, seen=f"{malformed:,} of the first {head.lines:,} lines are not")
    if parsed is None or parsed.invalid <= cut_lines:
        return compared(holds=True, expected=expected, seen=f"{parsed.lines if parsed else head.lines:,} lines, each an object")
    # another refuted assumption explains these malformed lines
    if head.undecodable or not _has_email(head) or len(_usable_keys(evidence, head)) != 1:
        return compared(holds=True, expected=expected, seen=f"the first {head.lines:,} lines are objects")
    return compared(
        holds=False,
        expected="an object with an address and a list of names in each line",
        seen=f"{parsed.invalid:,} of {parsed.lines:,} lines are malformed",
    )


@_assume(
    "The text is encoded in UTF-8.",
    ("D", "RFC 8259, section 8.1, requires it of JSON; not documented by Nosto"),
    if_wrong="Lines with other characters count as malformed, and the run fails before its first message.",
    remedy="Do not activate. Ask Nosto's support.",
    needs=_lines,
)
def text_is_utf8(_: Evidence, head: Head) -> Finding:  # noqa: D103
    seen = f"{head.undecodable:,} of the first {head.lines:,} lines cannot be decoded" if head.undecodable else "UTF-8"
    return compared(holds=not head.undecodable, expected="UTF-8", seen=seen)


@_assume(
    "The address of each record is under the key email.",
    HELP,
    if_wrong="Every line counts as malformed, and the run fails before its first message.",
    remedy="Do not activate: this version of the tap cannot read such an export.",
    needs=_records,
)
def email_key(_: Evidence, head: Head) -> Finding:  # noqa: D103
    return compared(holds=_has_email(head), expected="the key email", seen=f"the keys {enumerate_keys(head.keys.records)}")


def _has_email(head: Head) -> bool:
    return head.keys.records.get("email", 0) * 2 > head.objects


@_assume(
    "The addresses are in clear text, not hashed.",
    HELP,
    if_wrong="Runs fail before their first message if more than half of the addresses have no @.",
    remedy="Do not activate: hashes cannot be matched with contacts in dotdigital.",
    needs=_contacts,
)
def addresses_in_clear(_: Evidence, parsed: ParsedExport) -> Finding:  # noqa: D103
    count, valid = parsed.unlike_addresses, parsed.lines - parsed.invalid
    return compared(holds=count * 2 <= valid, expected="addresses with @", seen=f"{count:,} of {valid:,} addresses without @")


@_assume(
    "Besides email, exactly one key holds a list of names: the segment identifier that was entered in Nosto.",
    HELP,
    if_wrong="Runs fail before their first message, and list the keys that were found.",
    remedy="Set segment_identifier to the key that holds the names. If none holds a list of names, do not activate.",
    needs=_records,
)
def one_list_of_names(evidence: Evidence, head: Head) -> Finding:  # noqa: D103
    identifier, candidates = evidence.settings.segment_identifier, head.keys.candidates
    expected = f"a list of names under {printable(identifier)!r}" if identifier else "one key with a list of names"
    seen = f"lists of names under: {enumerate_keys(candidates)}" if candidates else "no list of names"
    return compared(holds=len(_usable_keys(evidence, head)) == 1, expected=expected, seen=seen)


def _usable_keys(evidence: Evidence, head: Head) -> list[str]:
    """Return the keys that hold lists of names; if the identifier is configured, only that one."""
    return [key for key in head.keys.candidates if evidence.settings.segment_identifier in {None, key}]


@_assume(
    "The lists hold the names of segments, not their IDs.",
    HELP,
    if_wrong="Runs fail before their first message.",
    remedy="Do not activate: no rule in dotdigital would match.",
    needs=_contacts,
)
def names_not_ids(_: Evidence, parsed: ParsedExport) -> Finding:  # noqa: D103
    if not parsed.counts:
        return not_tested("no contact is in a segment")
    ids = sum(SEGMENT_ID.fullmatch(name) is not None for name in parsed.counts)
    seen = f"{ids:,} of {len(parsed.counts):,} have the form of an ID"
    return compared(holds=ids < len(parsed.counts), expected="names", seen=seen)


@_assume(
    "Contacts in no segment are in the export, with an empty list.",
    UNDOCUMENTED,
    if_wrong="A contact that leaves its last segment counts as removed. Its labels are cleared as well, unless the target is set to keep "
    "the labels of removed contacts.",
    remedy="Leave on_removed of target-dotdigital at its default, clear.",
    needs=_contacts,
)
def contacts_without_segments_are_listed(evidence: Evidence, parsed: ParsedExport) -> Finding:  # noqa: D103
    if not evidence.without_segments:
        return not_tested("every contact in the export is in a segment, which proves nothing")
    seen = f"{evidence.without_segments:,} of {parsed.contacts:,} contacts"
    return compared(holds=True, expected="contacts with an empty list", seen=seen)


@_assume(
    "Each export holds all contacts processed to date, not only those that changed.",
    HELP,
    if_wrong="Runs fail before their first message as soon as the export is smaller than max_shrink_percent allows.",
    remedy="Do not activate, and do not override the guard: contacts that are not in the file would lose their labels.",
    needs=_contacts,
)
def export_is_full(evidence: Evidence, parsed: ParsedExport) -> Finding:  # noqa: D103
    base = evidence.base
    if base is None or evidence.export is None or base.export_digest == evidence.export.digest:
        return not_tested("there is no snapshot of another export")
    max_percent = evidence.settings.max_shrink_percent
    return compared(
        # each malformed line may be a contact
        holds=not has_shrunk(base.contacts, parsed.contacts + parsed.invalid, max_percent),
        expected=f"at most {max_percent} % fewer contacts than the {base.contacts:,} of the snapshot",
        seen=f"{parsed.contacts:,} contacts",
    )


@_assume(
    "The GraphQL API returns the segments for an API_APPS token, sent with Basic and an empty user name.",
    GRAPHQL,
    if_wrong="Runs continue with a warning and do not recognise renamed segments. A run that selects the stream segments fails before "
    "its first message.",
    remedy="Correct api_token and graphql_url, or leave api_token empty.",
    needs=lambda evidence: "api_token is not set" if evidence.settings.api_token is None else evidence.catalogue,
)
def catalogue_answers(evidence: Evidence, catalogue: Mapping[str, str]) -> Finding:  # noqa: D103
    error = evidence.catalogue_error
    seen = f"{len(catalogue):,} segments" if error is None else str(error).partition(":")[0]
    return compared(holds=error is None, expected="a list of segments", seen=seen)


@_assume(
    "The names in the export are spelled as in the catalogue.",
    UNDOCUMENTED,
    if_wrong="Runs use the names of the export. A segment that is spelled otherwise has no ID, and its renaming is not recognised.",
    remedy="Choose segments by the names in the export, as the check lists them.",
    needs=_catalogue,
)
def catalogue_names_match(evidence: Evidence, catalogue: Mapping[str, str]) -> Finding:  # noqa: D103
    names = [name for name in evidence.counts if not SEGMENT_ID.fullmatch(name)]
    if not names:
        return not_tested("the export contains no segment")
    missing = sorted(set(names) - set(catalogue.values()))
    seen = f"{len(missing):,} are not in it: {_listed(missing)}" if missing else "all are in it"
    return compared(holds=not missing, expected=f"{len(names):,} names of the export in the catalogue", seen=seen)


@_assume(
    "No two segments have the same name.",
    UNDOCUMENTED,
    if_wrong="The export cannot tell the segments apart: their contacts get one common label.",
    remedy="Rename one of the segments in Nosto before you use the name in dotdigital.",
    needs=_catalogue,
)
def names_are_unique(_: Evidence, catalogue: Mapping[str, str]) -> Finding:  # noqa: D103
    repeated = sorted(name for name, count in Counter(catalogue.values()).items() if count > 1)
    seen = f"repeated: {_listed(repeated)}" if repeated else "no name twice"
    return compared(holds=not repeated, expected="different names", seen=seen)


@_assume(
    "A segment keeps its ID.",
    UNDOCUMENTED,
    if_wrong="Renamed segments are not recognised: max_shrink_percent then stops the run on the day of a renaming.",
    remedy="Set shrink_override_date on a day on which you rename a segment.",
    needs=_catalogue,
)
def ids_are_stable(evidence: Evidence, catalogue: Mapping[str, str]) -> Finding:  # noqa: D103
    before = {name: key for key, name in (evidence.newest.catalogue if evidence.newest else {}).items()}
    now = {name: key for key, name in catalogue.items()}
    common = before.keys() & now.keys()
    if not common:
        return not_tested("there is no snapshot with the same segments")
    changed = sorted(name for name in common if before[name] != now[name] and before[name] not in catalogue)
    seen = f"other IDs for: {_listed(changed)}" if changed else f"the same IDs for {len(common):,} segments"
    return compared(holds=not changed, expected="the IDs of the newest snapshot", seen=seen)


def _listed(names: Collection[str]) -> str:
    return enumerated([shown_name(name) for name in names], MAX_LISTED_NAMES)
