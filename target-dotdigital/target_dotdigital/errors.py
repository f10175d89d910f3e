"""The target's exceptions, grouped by what the operator should do.

A message says what happened, what it means and what to do. It never contains a contact's address, a secret or a response body.
"""

from __future__ import annotations

from typing import ClassVar


class TargetError(Exception):
    """The run stops without STATE; the next run resends what was not confirmed.

    Each kind of error declares, for the reference of errors, a title, what causes it, and what to do.
    """

    title: ClassVar[str]
    cause: ClassVar[str]
    remedy: ClassVar[str]


class SettingsError(TargetError):
    """A setting is invalid, or contradicts another. Change the settings."""

    title: ClassVar[str] = "Settings"
    cause: ClassVar[str] = (
        "A setting or option is missing, invalid, or contradicts another one; or a folder that it names cannot be used."
    )
    remedy: ClassVar[str] = "Correct what the line names. Nothing was written."


class StreamError(TargetError):
    """The target cannot process a stream of the input. Change the tap's selection, or use stream maps."""

    title: ClassVar[str] = "Input that does not fit"
    cause: ClassVar[str] = (
        "A stream has no property with the address or the labels, has lost the mark of removed contacts, holds messages that this target "
        "does not read, or would mix two bases; or most records are invalid."
    )
    remedy: ClassVar[str] = (
        "Change the tap's selection, name the properties with `email_property` and `segments_property`, or use `stream_maps`. "
        "Nothing was written."
    )


class AccountError(TargetError):
    """The account does not allow what the settings require. Change credentials, names or the account."""

    title: ClassVar[str] = "Account"
    cause: ClassVar[str] = "dotdigital does not accept the login, or the account does not allow what the settings name."
    remedy: ClassVar[str] = "Correct the credentials or the name, or change the account in dotdigital."


class LedgerError(TargetError):
    """The ledger cannot be read or written, or its lock is lost."""

    title: ClassVar[str] = "Ledger"
    cause: ClassVar[str] = "The ledger cannot be opened, read or written, was made by a newer version, or its lock is lost."
    remedy: ClassVar[str] = (
        "Do what the line says: it names the file or the server, and what is wrong with it. A ledger of an earlier version is upgraded "
        "by the next run; one of a newer version needs that version."
    )


class AnotherRunError(LedgerError):
    """Another run is working on the account. Wait until it has ended."""

    title: ClassVar[str] = "Another run"
    cause: ClassVar[str] = "Another run holds the lock on this account's ledger."
    remedy: ClassVar[str] = (
        "Wait until the other run has ended. `report.json` stays the other run's; the report of the run that stopped is in `runs/`."
    )


class AgreementError(TargetError):
    """The input starts from a bookmark that this ledger has not acknowledged. Run once with --full-refresh."""

    title: ClassVar[str] = "Agreement of the two memories"
    cause: ClassVar[str] = (
        "The input starts from a bookmark that this ledger has not acknowledged: the ledger, the snapshots or the STATE were "
        "lost, replaced or restored, a setting names another account or data field, or an address was forgotten that the source still has."
    )
    remedy: ClassVar[str] = "Run once with `meltano run --full-refresh tap-nosto-segments target-dotdigital`. Nothing was written."


class NoInputError(TargetError):
    """The input is empty, because the tap failed. Check the tap's log."""

    title: ClassVar[str] = "No input"
    cause: ClassVar[str] = "The tap failed before its first message, or was not started."
    remedy: ClassVar[str] = "The tap's own last line says why. Nothing was written."


class IncompleteInputError(TargetError):
    """The input broke off after some records. These were delivered; the next run receives the rest."""

    title: ClassVar[str] = "Incomplete input"
    cause: ClassVar[str] = (
        "The tap failed after some records, or something between tap and target dropped ACTIVATE_VERSION. The records were delivered, "
        "because each record is true by itself, and nothing was cleared that they do not mention; the bookmark stays."
    )
    remedy: ClassVar[str] = "The tap's own last line says why. The next run carries over the rest."


class ReportError(TargetError):
    """The run succeeded, but its report could not be written. Free some space."""

    title: ClassVar[str] = "Report"
    cause: ClassVar[str] = "The work was done, but its report could not be written."
    remedy: ClassVar[str] = "Free some space, or check the permissions of `report_dir`. The line says what was delivered."


class NotActivatedError(TargetError):
    """The sync is not activated for the current settings. Read the review, then set the activation code."""

    title: ClassVar[str] = "Not activated"
    cause: ClassVar[str] = (
        "The sync has not been activated for this account, address book, data field, these label settings and streams."
    )
    remedy: ClassVar[str] = "Read the review, and set `activation_code`. Nothing was written."


class BrakeError(TargetError):
    """The run would exceed a brake. Check the report, then set brake_override_date to let it through."""

    title: ClassVar[str] = "Brakes"
    cause: ClassVar[str] = (
        "The run would change or clear the labels of more contacts than `max_change_percent` or `max_clear_percent` allows."
    )
    remedy: ClassVar[str] = (
        "Look at the report. If the change is intended, set `brake_override_date` to today. Nothing was written."
    )


class RehearsalError(TargetError):
    """The rehearsal refutes an assumption about the account. Do what its result says before activating the sync."""

    title: ClassVar[str] = "Rehearsal"
    cause: ClassVar[str] = "The rehearsal refuted an assumption about the account, or could not finish."
    remedy: ClassVar[str] = (
        "Do what its result says before you activate the sync. Only the rehearsal's own address book, data field and contacts "
        "were written."
    )


class DeliveryError(TargetError):
    """Some contacts could not be delivered, or are unconfirmed. Check the report, and run again."""

    title: ClassVar[str] = "Delivery"
    cause: ClassVar[str] = (
        "Some contacts are not confirmed, an import failed or was rejected, too many rows were rejected for the first time, or "
        "labels do not fit with `overflow: fail`."
    )
    remedy: ClassVar[str] = (
        "Read the line: most cases need only another run. Confirmed contacts stay as they are; the others are sent again."
    )


class ApiError(TargetError):
    """A call to dotdigital failed, and retrying did not help.

    Args:
        message: message for the operator.
        status: HTTP status; None if there was no response.
        code: dotdigital's error code, such as ERROR_ADDRESSBOOK_DUPLICATE.
        request_id: request ID for dotdigital's support.
        rows: positions of the rows of an import that the answer names.
        is_dotdigitals: whether the body of the answer is an error as dotdigital documents it.
    """

    title: ClassVar[str] = "Calls to dotdigital"
    cause: ClassVar[str] = "A call failed for good, or its response cannot be used."
    remedy: ClassVar[str] = "Run again later. If the error persists, give the request ID in the line to dotdigital's support."

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        rows: tuple[int, ...] = (),
        is_dotdigitals: bool = False,
    ) -> None:
        """Store the message and the facts of the response."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.rows = rows
        self.is_dotdigitals = is_dotdigitals


class TooManyImportsError(ApiError):
    """All import slots of the account are taken. Wait until one is free."""

    title: ClassVar[str] = "Import slots"
    cause: ClassVar[str] = "Other integrations use all of the account's import slots, and none became free in time."
    remedy: ClassVar[str] = "Run again later, at another time of day than the other integrations."


class EndlessListError(ApiError):
    """A paged list of dotdigital repeats itself. Run again later.

    Args:
        kind: kind of the list's items.
    """

    title: ClassVar[str] = "Endless list"
    cause: ClassVar[str] = "dotdigital's pages of a list repeat, so the list cannot be read to its end."
    remedy: ClassVar[str] = "Run again later. If the error persists, report it to dotdigital."

    def __init__(self, kind: str) -> None:
        """Build the message for a kind of items."""
        super().__init__(
            f"dotdigital: the list of {kind} does not come to an end: its pages repeat. Nothing was written by this call. Run again "
            "later; if that does not help, report it to dotdigital."
        )
