"""The first import: rows as the sync would send them, for new and existing contacts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.rehearsal.result import Finding, confirmed, judged, not_tested, refuted, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from target_dotdigital.dotdigital.full_contacts import Record
    from target_dotdigital.rehearsal.plan import Participant
    from target_dotdigital.rehearsal.sending import Sent
    from target_dotdigital.rehearsal.stage import Stage

FORBIDDEN = 403
NONE_NEW = (
    "None of your addresses is new to the account. Name one that is not a contact, or delete one of these contacts in dotdigital."
)
NOT_CREATED = "dotdigital did not create the new contact."
NO_CONTACT = "None of your addresses was a contact before. Name one that is."
Found = dict["Participant", "Record | None"]


def first_import(stage: Stage) -> list[Finding]:
    """Import all addresses but one, and compare the contacts before and after."""
    # with the time, so that values of an earlier rehearsal cannot be taken for these
    stamp = f"{stage.clock.now():%Y-%m-%d %H:%M:%S}"
    values = {one: f"Rehearsal {stamp};Address {one.number}" for one in stage.plan.first}
    sent = stage.send(*(stage.sender.labelled(one.email, value) for one, value in values.items()), narrows=True)
    if trouble := sent.trouble():
        stage.facts.blocked = f"The first import was not accepted: {trouble}."
        if sent.status == FORBIDDEN:
            return [refuted("permissions", "The API user may read contacts, but may not submit imports (status 403).")]
        return [not_tested("permissions", stage.facts.blocked)]
    wanted = {one: value for one, value in values.items() if not sent.code_of(one.email)}
    found = stage.await_values(wanted)
    visible = {one: record for one, record in found.items() if record is not None and record.value == wanted[one]}
    permitted = confirmed("permissions", "All calls of the sync were permitted: reads of the account and of contacts, and imports.")
    if wanted and not visible:
        stage.facts.blocked = (
            "dotdigital reported the first import as finished, but its values did not become visible within two minutes."
        )
        return [permitted, refuted("results_visible", stage.facts.blocked, "Do not activate. Ask dotdigital's support why.")]
    if stage.worker not in visible:
        code = sent.code_of(stage.worker.email) or "not in the report"
        stage.facts.blocked = f"dotdigital did not import {stage.worker.name} ({code}). Name another address."
    return [
        permitted,
        _visibility(stage),
        _report(stage, sent),
        _ids(sent, visible),
        *_new(stage, visible),
        *_lists(stage, visible),
        _consent(visible),
        _fields(visible),
        _suppressed(stage, sent, visible),
        _stored_capitals(stage, sent, visible),
    ]


def _visibility(stage: Stage) -> Finding:
    if not stage.facts.stale_reads:
        return confirmed("results_visible", "The first read after the import showed the new values.")
    return refuted(
        "results_visible",
        f"The new values became visible after {stage.facts.stale_seconds:.0f} s and {stage.facts.stale_reads} reads.",
    )


def _report(stage: Stage, sent: Sent) -> Finding:
    named = {one.email for one in (*sent.imported, *sent.failures)}
    missing = [one.name for one in stage.plan.first if one.email not in named]
    nameless = sum(one.contact_id is None and bool(one.email) for one in sent.imported)
    total = len(stage.plan.first)
    took = f"The import took {sent.seconds:.0f} s and {sent.polls} polls."
    if missing:
        return refuted("report_names_every_row", f"The report does not name {', '.join(missing)} of {total} rows. {took}")
    if nameless:
        return refuted(
            "report_names_every_row", f"The report names all {total} rows, but {nameless} of them without a contact ID. {took}"
        )
    return confirmed("report_names_every_row", f"The report names all {total} rows, with IDs. {took}")


def _ids(sent: Sent, visible: dict[Participant, Record]) -> Finding:
    reported = {one.email: one.contact_id for one in sent.imported if one.contact_id is not None}
    pairs = [(one, reported[one.email], record.contact_id) for one, record in visible.items() if one.email in reported]
    if not pairs:
        return not_tested("ids_are_stable", "The report of the import names no contact of yours with an ID.")
    wrong = [one.name for one, reported_id, read_id in pairs if reported_id != read_id]
    if wrong:
        return refuted("ids_are_stable", f"The report gives {', '.join(wrong)} the ID of another contact.")
    return confirmed("ids_are_stable", f"{len(pairs)} IDs in the report are those of the contacts.")


def _new(stage: Stage, visible: dict[Participant, Record]) -> Iterator[Finding]:
    new = {one: record for one, record in visible.items() if one.before is None}
    if not new:
        reason = NONE_NEW if not stage.plan.new else NOT_CREATED
        yield not_tested("new_contact_status", reason)
        yield not_tested("new_contact_opt_in_type", reason)
        return
    statuses = sorted({status for record in new.values() for status in (record.status, record.email_status) if status})
    types = sorted({record.opt_in_type or "none" for record in new.values()})
    if statuses:
        seen = f"New contacts have the status {' and '.join(statuses)}."
        yield judged("new_contact_status", seen, holds=_lower(statuses) == {"subscribed"})
    else:
        yield not_tested("new_contact_status", "dotdigital shows no status of new contacts.")
    yield judged(
        "new_contact_opt_in_type",
        f"New contacts have the opt-in type {' and '.join(types)}.",
        holds=_lower(types) <= {"unknown", "none"},
    )


def _lists(stage: Stage, visible: dict[Participant, Record]) -> Iterator[Finding]:
    known = {one: record.lists for one, record in visible.items() if record.lists is not None}
    if not known:
        yield not_tested("added_to_address_book", "dotdigital does not show in which address books a contact is.")
        yield not_tested("other_lists_kept", "dotdigital does not show in which address books a contact is.")
        return
    # one that has to confirm its opt-in joins the address book later: `new_contact_status` is about it
    joined = {one: lists for one, lists in known.items() if not visible[one].is_pending_opt_in}
    outside = [one.name for one, lists in joined.items() if stage.book not in lists]
    if outside:
        yield refuted("added_to_address_book", f"Not in the address book after the import: {', '.join(outside)}.")
    else:
        yield confirmed("added_to_address_book", f"All {len(joined)} contacts are in the rehearsal's address book.")
    before = {one: set(one.before.lists or ()) - {stage.book} for one in known if one.before is not None}
    members = [one for one, lists in before.items() if lists]
    if not members:
        yield not_tested("other_lists_kept", "None of your addresses was in another address book before. Name one that is.")
        return
    lost = [one.name for one in members if not before[one] <= set(known[one])]
    yield judged(
        "other_lists_kept",
        f"Removed from other address books: {', '.join(lost)}."
        if lost
        else f"{_contacts(len(members))} stayed in all other address books.",
        holds=not lost,
    )


def _consent(visible: dict[Participant, Record]) -> Finding:
    pairs = [(one, one.before, record) for one, record in visible.items() if one.before is not None and not one.is_suppressed]
    if not pairs:
        return not_tested("existing_consent_kept", NO_CONTACT)
    changed = []
    for one, before, after in pairs:
        for what, earlier, later in (
            ("status", before.email_status, after.email_status),
            ("status of the contact", before.status, after.status),
            ("opt-in type", before.opt_in_type, after.opt_in_type),
        ):
            if earlier != later:
                changed.append(f"{one.name}: {what} {earlier or 'none'} became {later or 'none'}")
        changed += [
            f"{one.name}: {what} changed"
            for what, earlier, later in zip(("preferences", "consent records"), before.consent, after.consent, strict=True)
            if earlier != later
        ]
    statuses = ", ".join(sorted({before.email_status for _, before, _ in pairs}))
    if changed:
        return refuted("existing_consent_kept", sentence(changed))
    return confirmed("existing_consent_kept", f"Nothing changed for {_contacts(len(pairs))} ({statuses}).")


def _fields(visible: dict[Participant, Record]) -> Finding:
    pairs = [(one, one.before.fields, record.fields) for one, record in visible.items() if one.before is not None]
    filled = [pair for pair in pairs if pair[1]]
    if not filled:
        return not_tested(
            "other_fields_kept", "None of your addresses was a contact with values in other data fields. Name one that is."
        )
    changed = sorted({name for _, before, after in filled for name, digest in before.items() if after.get(name) != digest})
    total = sum(len(before) for _, before, _ in filled)
    if changed:
        return refuted("other_fields_kept", f"Changed or emptied: {', '.join(changed)}.")
    return confirmed("other_fields_kept", f"Unchanged values in other data fields: {total} of {total}.")


def _suppressed(stage: Stage, sent: Sent, visible: dict[Participant, Record]) -> Finding:
    existing = stage.plan.existing
    chosen = [one for one in existing if one.is_suppressed] or [
        one for one in existing if one.before is not None and one.before.email_status.lower() == "unsubscribed"
    ]
    if not chosen:
        return not_tested("suppressed_kept", "None of your addresses is suppressed or unsubscribed. Name one that is.")
    wrong = []
    for one in chosen:
        record, before = visible.get(one), one.before
        if record is None:
            wrong.append(f"{one.name} did not get its labels ({sent.code_of(one.email) or 'no code'})")
        elif before is not None and record.email_status != before.email_status:
            wrong.append(f"the status of {one.name} changed from {before.email_status} to {record.email_status}")
    statuses = ", ".join(sorted({one.before.email_status for one in chosen if one.before}))
    if wrong:
        return refuted("suppressed_kept", sentence(wrong))
    return confirmed("suppressed_kept", f"{_contacts(len(chosen))} ({statuses}) got the labels and kept the status.")


def _stored_capitals(stage: Stage, sent: Sent, visible: dict[Participant, Record]) -> Finding:
    """Compare the contacts that dotdigital stores with capitals, and that were written in lower case."""
    chosen = [one for one in stage.plan.existing if one.before is not None and one.before.has_capitals]
    if not chosen:
        reason = "dotdigital stores none of your addresses with capitals. Name one that it does, or edit one there."
        return not_tested("stored_capitals", reason)
    wrong = []
    for one in chosen:
        record, before = visible.get(one), one.before
        if record is None:
            wrong.append(f"{one.name} did not get its labels ({sent.code_of(one.email) or 'no code'})")
        elif before is not None and record.contact_id != before.contact_id:
            wrong.append(f"another contact was created for {one.name}")
    if wrong:
        return refuted("stored_capitals", sentence(wrong))
    return confirmed("stored_capitals", f"{_contacts(len(chosen))} that dotdigital stores with capitals got the labels.")


def null_for_new(stage: Stage) -> list[Finding]:
    """Create a contact with null for the data field."""
    one = stage.plan.cleared_when_new
    if one is None:
        reason = "Only one of your addresses is new to the account. Name a second one." if stage.plan.new else NONE_NEW
        return [not_tested("null_harmless_for_new", reason)]
    sent = stage.send(stage.sender.labelled(one.email, None))
    record = stage.read(one)
    if record is None:
        code = sent.trouble() or sent.code_of(one.email) or "no code"
        return [refuted("null_harmless_for_new", f"The contact was not created ({code}).")]
    return [
        judged(
            "null_harmless_for_new",
            "The contact was created, and the field is empty."
            if not record.value
            else "The contact was created, but the field has a value.",
            holds=not record.value,
        )
    ]


def _lower(texts: list[str]) -> set[str]:
    return {text.lower() for text in texts}


def _contacts(number: int) -> str:
    return "1 contact" if number == 1 else f"{number} contacts"
