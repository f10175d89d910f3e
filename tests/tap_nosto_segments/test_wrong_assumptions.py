"""Nosto behaves otherwise than assumed: the check refutes exactly that assumption, and a run is right or fails before its first line."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import ExportFile, Shop
from nosto_dotdigital_sandbox.nosto_deviations import NOSTO
from support.oracle import expected
from support.running import Outcome, run_tap
from tap_nosto_segments.assumptions import ASSUMPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox

SHOP = Shop(contacts=300, change_per_mille=100, doubled_per_mille=0)
NOW = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True, slots=True)
class Case:
    """What a switch leads to.

    Args:
        refuted: the assumption that the check refutes; None if the run is correct in either case.
        stops: words of the line with which a run stops before its first line; empty if the run is right.
        advice: words of the consequence that the check names.
        settings: settings that differ from those of the other cases.
        always: whether Nosto has behaved so on the day before, too.
    """

    refuted: str | None
    stops: str = ""
    advice: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    always: bool = False


CASES = {
    "token_rejected": Case("token_opens_export", "refused the export token", "try-auth"),
    "token_forbidden": Case("token_opens_export", "refused the export token", "try-auth"),
    "export_missing": Case("export_exists", "There is no export file yet", "Wait for a day"),
    "export_not_ready": Case("export_exists", "There is no export file yet", "Wait for a day"),
    "get_not_allowed": Case("answer_is_export", "status 405", "Correct export_url"),
    "login_page": Case("answer_is_export", "is a web page", "Correct export_url"),
    "link_in_json": Case("answer_is_export", "no key 'nosto_segments'", "set export_link_pointer"),
    "redirects_to_plain_http": Case("redirects_are_secure", "redirects to is not an https address", "Do not activate"),
    "redirects_to_another_host": Case(None),
    "wrong_length": Case("arrives_complete", "failed 4 times", "Nosto's support"),
    "cuts_last_line": Case("arrives_complete", "middle of a line", "Nosto's support"),
    "truncated_gzip": Case("arrives_complete", "ends too early", "Nosto's support"),
    "no_length": Case("length_is_announced", advice="max_shrink_percent"),
    "other_content_type": Case(None),
    "gzip_label_without_gzip": Case(None),
    "no_etag": Case(None),
    "no_last_modified": Case("last_modified_is_sent", advice="from time to time"),
    "last_modified_is_now": Case("last_modified_is_sent", advice="from time to time"),
    "etag_changes": Case(None),
    "ignores_conditions": Case(None),
    "etag_never_changes": Case("changed_export_gets_new_etag", advice="once a day", always=True),
    "export_stops": Case("made_daily", "hours ago, more than max_export_age_hours", "why the export stopped"),
    "empty_export": Case("export_has_contacts", "contains no contacts", "allow_empty_export"),
    "json_array": Case("json_lines", "JSON array", "Do not activate"),
    "csv": Case("json_lines", "lines of the export are malformed", "Do not activate"),
    "some_lines_malformed": Case("json_lines", "lines of the export are malformed", "max_invalid_lines"),
    "latin_1": Case("text_is_utf8", "export", "Do not activate"),
    "other_email_key": Case("email_key", "lines of the export are malformed", "Do not activate"),
    "hashed_addresses": Case("addresses_in_clear", "have no @", "Do not activate"),
    "several_lists": Case(
        "one_list_of_names", "several keys could hold the names", "Set segment_identifier", {"segment_identifier": None}
    ),
    "names_as_text": Case("one_list_of_names", "lines of the export are malformed", "do not activate"),
    "names_as_objects": Case("one_list_of_names", "lines of the export are malformed", "do not activate"),
    "renames_identifier": Case("one_list_of_names", "no key 'nosto_segments'", "Set segment_identifier"),
    "ids_instead_of_names": Case("names_not_ids", "IDs of segments instead of their names", "Do not activate"),
    "duplicate_lines": Case(None),
    # contacts without segments may simply not exist
    "omits_contacts_without_segments": Case(None),
    "only_changes": Case("export_is_full", "shrank by more than max_shrink_percent", "do not override the guard"),
    "catalogue_rejects_token": Case("catalogue_answers", advice="Correct api_token"),
    "catalogue_answers_errors": Case("catalogue_answers", advice="Correct api_token"),
    "catalogue_unavailable": Case("catalogue_answers", advice="Correct api_token"),
    "catalogue_respells_names": Case("catalogue_names_match", advice="names in the export"),
    "catalogue_repeats_names": Case("names_are_unique", advice="Rename one of the segments"),
    "catalogue_renews_ids": Case("ids_are_stable", advice="shrink_override_date"),
}


@pytest.fixture
def config(sandbox: Sandbox, tmp_path: Path) -> dict[str, Any]:
    """Settings that use everything: identifier, token, catalogue."""
    sandbox.nosto.segments = [*SHOP.catalogue(0)]
    return {
        "export_url": sandbox.export_url,
        "export_token": sandbox.nosto.token,
        "api_token": sandbox.nosto.api_token,
        "graphql_url": sandbox.graphql_url,
        "segment_identifier": "nosto_segments",
        "snapshot_uri": str(tmp_path / "snapshots"),
    }


def publish(sandbox: Sandbox, day: int) -> bytes:
    """Publish the export of a day; day 1 is today."""
    body = SHOP.export(day)
    sandbox.nosto.export = ExportFile(body, NOW - datetime.timedelta(days=1 - day, hours=2))
    return body


def applied(before: dict[str, list[str]], outcome: Outcome) -> dict[str, list[str]]:
    """Apply a run's records, as a target does."""
    contacts = dict(before)
    for record in outcome.records():
        if record["_sdc_deleted_at"]:
            del contacts[record["email"]]
        else:
            contacts[record["email"]] = record["segments"]
    return contacts


def verdicts(outcome: Outcome) -> dict[str, str]:
    """Read the verdicts off the table: assumption -> confirmed, REFUTED or not tested."""
    found: dict[str, str] = {}
    for line in outcome.output.splitlines():
        for verdict in ("confirmed", "REFUTED", "not tested"):
            if line.startswith(f"  {verdict} "):
                found |= dict.fromkeys(line[14:].partition(":")[0].split(", "), verdict)
    return found


def of(found: dict[str, str], verdict: str) -> set[str]:
    """Return the assumptions with a verdict."""
    return {name for name, given in found.items() if given == verdict}


def test_every_assumption_has_a_test_and_every_switch_a_case() -> None:
    assert len({assumption.id for assumption in ASSUMPTIONS}) == len(ASSUMPTIONS)
    assert set(CASES) == set(NOSTO)
    refutable = {assumption.id for assumption in ASSUMPTIONS} - {"contacts_without_segments_are_listed"}
    assert {case.refuted for case in CASES.values() if case.refuted} == refutable


def test_an_unknown_switch_is_rejected(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="'no_tag'"):
        sandbox.nosto.deviations.add("no_tag")


def test_without_a_switch_everything_testable_is_confirmed(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome]
) -> None:
    publish(sandbox, 0)
    first = check(config)
    found = verdicts(first)
    assert (first.code, first.errors) == (0, []), first.log
    unknown_yet = {"changed_export_gets_new_etag", "export_is_full", "ids_are_stable"}
    assert of(found, "REFUTED") == set()
    assert of(found, "not tested") == unknown_yet
    state = run_tap(config).bookmark
    publish(sandbox, 1)
    found = verdicts(check(config, state))
    assert of(found, "confirmed") == {assumption.id for assumption in ASSUMPTIONS}
    assert of(found, "not tested") == set()


@pytest.mark.parametrize("switch", CASES)
def test_a_wrong_assumption_is_refuted_and_does_no_harm(
    sandbox: Sandbox, config: dict[str, Any], check: Callable[..., Outcome], switch: str
) -> None:
    case = CASES[switch]
    config = {name: value for name, value in {**config, **case.settings}.items() if value is not None}
    if case.always:
        sandbox.nosto.deviations.add(switch)
    before = expected(publish(sandbox, 0))
    first = run_tap(config)
    assert applied({}, first) == before
    after = expected(publish(sandbox, 1))
    assert after != before
    sandbox.nosto.deviations.add(switch)

    checked = check(config, first.bookmark)
    found = verdicts(checked)
    assert of(found, "REFUTED") == ({case.refuted} if case.refuted else set()), checked.output
    if case.refuted:
        assumption = next(known for known in ASSUMPTIONS if known.id == case.refuted)
        assert f"what to do: {assumption.remedy}" in checked.output
        assert case.advice in assumption.remedy
        assert f"what a run does: {assumption.if_wrong}" in checked.output

    ran = run_tap(config, first.bookmark)
    if case.stops:
        assert (ran.code, ran.output, len(ran.errors)) == (1, "", 1), ran.log
        assert case.stops in ran.errors[0]
        # the check ends as the run does, with the same line
        assert (checked.code, checked.errors) == (1, ran.errors)
    else:
        assert (ran.code, checked.code) == (0, 0), ran.log
        arrived = applied(before, ran)
        assert labelled(arrived) == labelled(after)
        assert arrived.keys() == after.keys() or switch == "omits_contacts_without_segments"
        assert checked.output.splitlines()[-1].startswith("OK: a run would pass its guards")


def labelled(contacts: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the contacts that are in a segment."""
    return {email: names for email, names in contacts.items() if names}


def test_an_etag_that_never_changes_is_not_trusted_for_longer_than_a_day(sandbox: Sandbox, config: dict[str, Any]) -> None:
    sandbox.nosto.deviations.update(["etag_never_changes", "no_last_modified"])
    before = expected(publish(sandbox, 0))
    state = run_tap(config, moment=NOW).bookmark
    after = expected(publish(sandbox, 1))
    ran = run_tap(config, state, moment=NOW + datetime.timedelta(hours=25))
    assert applied(before, ran) == after


def test_a_segment_renamed_after_the_export_was_made_keeps_its_name_for_a_day(sandbox: Sandbox, config: dict[str, Any]) -> None:
    many = Shop(contacts=1_500, change_per_mille=0, vanish_per_mille=0, new_per_mille=0, doubled_per_mille=0)
    renamed = Shop(
        contacts=1_500,
        change_per_mille=0,
        vanish_per_mille=0,
        new_per_mille=0,
        doubled_per_mille=0,
        renames=((0, "VIP", "Very Important"),),
    )
    days = (many.export(0), many.export(0) + b"\n", renamed.export(0))
    state = None
    for number, (body, catalogue) in enumerate(zip(days, (many, renamed, renamed), strict=True)):
        sandbox.nosto.export = ExportFile(body, NOW - datetime.timedelta(days=2 - number, hours=1))
        sandbox.nosto.segments = [*catalogue.catalogue(0)]
        ran = run_tap({**config, "max_export_age_hours": 0}, state)
        assert ran.code == 0, ran.log
        assert ("Segment renamed in Nosto: 'VIP' is now 'Very Important'" in ran.log) == (number == 2)
        state = ran.bookmark
