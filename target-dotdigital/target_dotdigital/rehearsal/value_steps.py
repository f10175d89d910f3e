"""Experiments with the values of the data field, on one contact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.rehearsal.result import Finding, confirmed, judged, not_tested, refuted, sentence

if TYPE_CHECKING:
    from target_dotdigital.rehearsal.sending import Sent
    from target_dotdigital.rehearsal.stage import Stage

# every tenth character is a position, so that a cut is located
RULER = 10


def clearing(stage: Stage) -> list[Finding]:
    """Write a value, leave the field out, and clear it with null."""
    kept = "Value that stays"
    stage.write(kept)
    if stage.read_value() != kept:
        reason = "A value could not be written before the test."
        return [not_tested("absent_field_kept", reason), not_tested("null_clears", reason)]
    sent = stage.send(stage.sender.unlabelled(stage.worker.email))
    value = stage.read_value()
    if trouble := _rejection(stage, sent):
        absent = not_tested("absent_field_kept", f"The row without the field was not imported: {trouble}.")
    else:
        absent = judged(
            "absent_field_kept",
            "The value is still there." if value == kept else "The row without the field changed the field.",
            holds=value == kept,
        )
    if not value:
        stage.write(kept)
        if not stage.read_value():
            return [absent, not_tested("null_clears", "A value could not be written before the test.")]
    sent = stage.write(None)
    value = stage.read_value()
    seen = "The field is empty." if value == "" else "The field still has its value." if value else "The contact is gone."
    if trouble := _rejection(stage, sent):
        seen = f"{seen} dotdigital did not import the row: {trouble}."
    return [absent, judged("null_clears", seen, holds=value == "")]


def ruler(length: int) -> str:
    """Return a text of a length in which every position can be told from the text around it."""
    marks = "".join(f"{position:>{RULER - 1}}|" for position in range(RULER, length + RULER, RULER)).replace(" ", ".")
    # the last character must differ from the one before, so that a text that lost it is noticed
    return (marks[:length])[:-1] + "#"


def lengths(stage: Stage) -> list[Finding]:
    """Write values of several lengths, one import each, and find the longest that comes back unchanged."""
    setting = stage.plan.max_value_length
    kept: list[int] = []
    seen: list[str] = []
    silent = False
    for length in stage.plan.lengths:
        value = ruler(length)
        sent = stage.write(value)
        found = stage.read_value()
        if found == value:
            kept.append(length)
            seen.append(f"{length}: unchanged")
        elif trouble := _rejection(stage, sent):
            seen.append(f"{length}: {trouble}")
        else:
            silent = True
            seen.append(f"{length}: {_difference(value, found)}, without an error")
    longest = 0
    for length in stage.plan.lengths:
        if length not in kept:
            break
        longest = length
    stage.facts.max_value_length = min(longest, 1000) or None
    summary = f"{'; '.join(seen)}."
    if longest >= setting:
        over = " Longer values are changed without an error, so max_value_length must not be higher." if silent else ""
        return [confirmed("value_length", summary + over)]
    if not longest:
        return [refuted("value_length", summary, "Do not activate: no value of the tested lengths came back unchanged.")]
    advice = f"Set max_value_length to {longest} before you activate, and rehearse again."
    return [refuted("value_length", summary, advice)]


def exact_text(stage: Stage) -> list[Finding]:
    """Write a value with every kind of character that segment names may have."""
    delimiter = stage.sender.settings.labels.delimiter
    value = f'  Loyal, "VIP" & O\'Neil{delimiter}<b>Zürich</b>\\100 %{delimiter}Ångström \N{PARTY POPPER} 日本  '
    sent = stage.write(value)
    found = stage.read_value()
    if found == value:
        return [confirmed("text_exact", f"All {len(value)} characters came back unchanged.")]
    if trouble := _rejection(stage, sent):
        return [refuted("text_exact", f"The value was not imported: {trouble}.")]
    return [refuted("text_exact", sentence([_changes(value, found or "")]))]


def _changes(value: str, found: str) -> str:
    """Return what became of the parts of a value."""
    parts = {
        'quotation marks (")': ('"VIP"',),
        "apostrophes": ("O'Neil",),
        "commas": ("Loyal,",),
        "ampersands (&)": (" & ",),
        "markup (<b>)": ("<b>",),
        "backslashes": ("\\100",),
        "accents": ("Zürich", "Ångström"),
        "emoji": ("\N{PARTY POPPER}",),
        "other scripts": ("日本",),
    }
    changed = [name for name, texts in parts.items() if any(text not in found for text in texts)]
    if not (found.startswith(value[:2]) and found.endswith(value[-2:])):
        changed.insert(0, "spaces at the ends")
    return f"changed or lost: {', '.join(changed)}" if changed else _difference(value, found)


def _difference(value: str, found: str | None) -> str:
    if not found:
        return "the field is empty"
    if value.startswith(found):
        return f"cut to {len(found)} characters"
    place = next(
        (number for number, pair in enumerate(zip(value, found, strict=False)) if pair[0] != pair[1]), min(len(value), len(found))
    )
    return f"changed from character {place + 1} on"


def _rejection(stage: Stage, sent: Sent) -> str:
    """Describe why the worker's row was not imported; empty if it was."""
    if trouble := sent.trouble():
        return trouble
    code = sent.code_of(stage.worker.email)
    return f"the row was rejected ({code})" if code else ""
