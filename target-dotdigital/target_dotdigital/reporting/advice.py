"""What to do about rejected contacts and records that are left out."""

from __future__ import annotations

# by dotdigital's code of a rejection (lower case) or our reason for leaving a record out
ADVICE = {
    "invalidemail": "The address cannot receive e-mail. Correct it in the shop.",
    "invaliddomain": "The domain of the address does not exist. Correct it in the shop.",
    "globallysuppressed": "dotdigital suppresses this address in every account, because of a complaint or as a spam trap. Nothing to do.",
    "suppressedbydomain": "The domain asked dotdigital not to send to it. Nothing to do.",
    "blocker": "dotdigital blocks this address. If that is wrong, contact its support.",
    "invalidcontactid": "The contact was deleted in dotdigital. Nothing to do.",
    "invalidaddressbookids": "The address book was deleted during the run. Run again.",
    "apischemaviolation": "A value does not fit its data field. Lower max_value_length, or check the field's type.",
    "no e-mail address": "The source contains a value that is not an e-mail address. Correct it in the shop.",
    "no list of segments": "The record has no list of segments, so the labels were not changed. Check the tap.",
}
UNKNOWN_CODE = "Ask dotdigital's support what this code means."


def advice_on(code: str | None) -> str:
    """Return what to do about a code, whatever its capitals."""
    return ADVICE.get((code or "").lower(), UNKNOWN_CODE)
