"""What to do about rejected contacts and records that are left out."""

from __future__ import annotations

from target_dotdigital.records import letters_of

_NO_BOOK = "The address book was deleted during the run. Run again."
_CONFLICT = "The identifiers of this contact belong to different contacts in dotdigital. Merge them there, or correct one of them."
# by the letters of dotdigital's code of a rejection, or of our reason for leaving a record out
ADVICE = {
    "invalidemail": "The address cannot receive e-mail. Correct it in the shop.",
    "invaliddomain": "The domain of the address does not exist. Correct it in the shop.",
    "globallysuppressed": "dotdigital suppresses this address in every account, because of a complaint or as a spam trap. Nothing to do.",
    "suppressedbydomain": "The domain asked dotdigital not to send to it. Nothing to do.",
    "duplicateidentifier": "dotdigital takes another spelling of this address for the same contact. Use one spelling in the shop.",
    "blocker": "dotdigital blocks this address. If that is wrong, contact its support.",
    "invalidcontactid": "The contact was deleted in dotdigital. Nothing to do.",
    "invalidaddressbookids": _NO_BOOK,
    "invalidlistids": _NO_BOOK,
    "identifierconflict": _CONFLICT,
    "invalidcontact": _CONFLICT,
    "invalidvalue": "dotdigital refuses a value of this contact. Rename the segment with segment_labels, or lower max_value_length.",
    "refusedstatus": "dotdigital refuses an import with this contact, and does not say why. Ask its support.",
    "apischemaviolation": "A value does not fit its data field. Lower max_value_length, or check the field's type.",
    "noemailaddress": "The source contains a value that is not an e-mail address. Correct it in the shop.",
    "nolistofsegments": "The record has no list of segments, so the labels were not changed. Check the tap.",
}
UNKNOWN_CODE = "Ask dotdigital's support what this code means."


def advice_on(code: str | None) -> str:
    """Return what to do about a code, however it is spelled."""
    return ADVICE.get(letters_of(code), UNKNOWN_CODE)
