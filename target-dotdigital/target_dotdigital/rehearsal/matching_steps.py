"""Experiments with the identity of contacts, and with rows that must fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.rehearsal.names import in_capitals, invalid
from target_dotdigital.rehearsal.result import Finding, confirmed, judged, not_tested, refuted, sentence
from target_dotdigital.rehearsal.sending import REFUSED

if TYPE_CHECKING:
    from target_dotdigital.rehearsal.stage import Stage

# far above every ID that was seen, so that no contact is created with it in the meantime
ID_DISTANCE = 900_000_000
RESENT = "The import failed at dotdigital and was sent a second time, so the test says nothing. Rehearse again."


def capitals(stage: Stage) -> list[Finding]:
    """Import the address in capitals."""
    email, value = stage.worker.email, "Address in capitals"
    before = stage.read()
    sent = stage.send(stage.sender.labelled(email, value, written=in_capitals(email)))
    after = stage.read()
    if sent.resent:
        return [not_tested("case_insensitive_addresses", RESENT)]
    if trouble := sent.trouble() or sent.code_of(email):
        return [not_tested("case_insensitive_addresses", f"The address in capitals was not imported ({trouble}).")]
    if after is not None and after.value == value and before is not None and after.contact_id == before.contact_id:
        return [confirmed("case_insensitive_addresses", "The address in capitals updated the same contact.")]
    stage.facts.capitals_matter = True
    stage.facts.leftovers.append(f"the contact with the capitals of {stage.worker.name} in its address, if there is one")
    seen = "The address in capitals did not update the contact" + (", but created another one." if sent.created else ".")
    return [refuted("case_insensitive_addresses", seen)]


def duplicates(stage: Stage) -> list[Finding]:
    """Import the same address twice in one import."""
    if stage.facts.capitals_matter:
        return [
            not_tested(
                "duplicates_reported", "Addresses in other capitals are other contacts, so there were no duplicates to test."
            )
        ]
    email = stage.worker.email
    sent = stage.send(
        stage.sender.labelled(email, "First of two"), stage.sender.labelled(email, "Second of two", written=in_capitals(email))
    )
    value = stage.read_value()
    if sent.resent:
        return [not_tested("duplicates_reported", RESENT)]
    if trouble := sent.trouble():
        return [refuted("duplicates_reported", sentence([trouble]))]
    which = {"First of two": "the first row was imported", "Second of two": "the second row was imported"}.get(
        value or "", "neither row was imported"
    )
    code = sent.code_of(email)
    if code:
        return [confirmed("duplicates_reported", sentence([f"one row was reported as a failure ({code})", which]))]
    return [refuted("duplicates_reported", sentence(["no failure was reported", which]))]


def contact_ids(stage: Stage) -> list[Finding]:
    """Match by the ID of the contact, then by an ID that does not exist."""
    record = stage.read()
    if record is None or record.contact_id is None:
        return [not_tested("id_match_never_creates", "dotdigital shows no ID for the contact.")]
    email, value = stage.worker.email, "Matched by ID"
    sent = stage.send(stage.sender.labelled(email, value, contact_id=record.contact_id))
    if stage.read_value() != value:
        code = sent.trouble() or sent.code_of(email) or "no code"
        return [refuted("id_match_never_creates", f"A row matched by the contact's own ID did not update it ({code}).")]
    return [_unknown_id(stage, record.contact_id + ID_DISTANCE, value)]


def _unknown_id(stage: Stage, unknown: int, value: str) -> Finding:
    """Send a row with an ID that does not exist; `value` is what the contact has to keep."""
    if stage.records.by_id(unknown) is not None:
        return not_tested("id_match_never_creates", "No contact ID was found that does not exist.")
    sent = stage.send(stage.sender.labelled(stage.worker.email, "Unknown ID", contact_id=unknown))
    stage.settle()
    if sent.created or stage.records.by_id(unknown) is not None:
        stage.facts.leftovers.append("the contact without an address that the test with an unknown contact ID created")
        return refuted("id_match_never_creates", "A row with an ID that does not exist created a contact.")
    if sent.state != REFUSED and (trouble := sent.trouble()):
        return refuted("id_match_never_creates", sentence([trouble]))
    if stage.read_value() != value:
        return refuted("id_match_never_creates", "A row with an ID that does not exist changed another contact.")
    code = sent.code or next((one.code for one in sent.failures), "")
    return judged(
        "id_match_never_creates",
        f"The contact was updated by its ID; an unknown ID was reported as {code} and created nothing."
        if code
        else "The contact was updated by its ID. An unknown ID is in no part of the import's report.",
        holds=bool(code),
    )


def invalid_address(stage: Stage) -> list[Finding]:
    """Import an invalid address together with a valid one."""
    wrong, value = invalid(stage.worker.email), "Beside an invalid address"
    sent = stage.send(
        stage.sender.labelled(wrong, "Invalid address"), stage.sender.labelled(stage.worker.email, value), narrows=True
    )
    arrived = stage.read_value() == value
    if trouble := sent.trouble():
        return [refuted("invalid_address_rejected_alone", sentence([f"because of one invalid address, {trouble}"]))]
    code = sent.code_of(wrong)
    if not code:
        if any(one.email == wrong for one in sent.imported):
            stage.facts.leftovers.append(f"the contact whose address is that of {stage.worker.name} with -at- instead of @")
            return [refuted("invalid_address_rejected_alone", "dotdigital accepted the invalid address as a contact.")]
        return [refuted("invalid_address_rejected_alone", "The report of the import does not name the invalid address.")]
    how = "dotdigital refused the whole call, and accepted it without the invalid address" if sent.narrowed else "it was reported"
    other = "the other contact was updated" if arrived else "the other contact was not updated"
    return [judged("invalid_address_rejected_alone", sentence([f"{how} ({code})", other]), holds=arrived)]


def unknown_field(stage: Stage) -> list[Finding]:
    """Import a value for a data field that does not exist."""
    name = stage.plan.names.unknown_field
    if name.upper() in stage.records.field_names():
        return [not_tested("unknown_field_reported", f"The account has a data field {name}, so nothing was sent to it.")]
    sent = stage.send(stage.sender.misnamed(stage.worker.email, "No such field", name))
    if trouble := sent.trouble():
        return [confirmed("unknown_field_reported", sentence([trouble]))]
    code = sent.code_of(stage.worker.email)
    seen = f"The row was reported as {code}." if code else "dotdigital accepted the row and reported no failure."
    return [judged("unknown_field_reported", seen, holds=bool(code))]
