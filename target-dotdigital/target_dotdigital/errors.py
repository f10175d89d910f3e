"""The target's exceptions, grouped by what the operator should do.

A message says what happened, what it means and what to do. It never contains a contact's address, a secret or a response body.
"""

from __future__ import annotations


class TargetError(Exception):
    """The run stops without STATE; the next run resends what was not confirmed."""


class SettingsError(TargetError):
    """A setting is invalid, or contradicts another. Change the settings."""


class StreamError(TargetError):
    """The target cannot process a stream of the input. Change the tap's selection, or use stream maps."""


class AccountError(TargetError):
    """The account does not allow what the settings require. Change credentials, names or the account."""


class LedgerError(TargetError):
    """The ledger cannot be read or written, or belongs to another run."""


class AgreementError(TargetError):
    """The input starts from a bookmark that this ledger has not acknowledged. Run once with --full-refresh."""


class NoInputError(TargetError):
    """The input is empty, because the tap failed. Check the tap's log."""


class IncompleteInputError(TargetError):
    """The input broke off after some records. These were delivered; the next run receives the rest."""


class ReportError(TargetError):
    """The run succeeded, but its report could not be written. Free some space."""


class NotActivatedError(TargetError):
    """The sync is not activated for the current settings. Read the review, then set the activation code."""


class BrakeError(TargetError):
    """The run would exceed a brake. Check the report, then set brake_override_date to let it through."""


class RehearsalError(TargetError):
    """The rehearsal refutes an assumption about the account. Do what its result says before activating the sync."""


class DeliveryError(TargetError):
    """Some contacts could not be delivered, or are unconfirmed. Check the report, and run again."""


class ApiError(TargetError):
    """A call to dotdigital failed, and retrying did not help.

    Args:
        message: message for the operator.
        status: HTTP status; None if there was no response.
        code: dotdigital's error code, such as ERROR_ADDRESSBOOK_DUPLICATE.
        request_id: request ID for dotdigital's support.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None, request_id: str | None = None) -> None:
        """Store the message and the facts of the response."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id


class TooManyImportsError(ApiError):
    """All import slots of the account are taken. Wait until one is free."""


class EndlessListError(ApiError):
    """A paged list of dotdigital repeats itself. Run again later.

    Args:
        kind: kind of the list's items.
    """

    def __init__(self, kind: str) -> None:
        """Build the message for a kind of items."""
        super().__init__(
            f"dotdigital: the list of {kind} does not come to an end: its pages repeat. Nothing was written by this call. Run again "
            "later; if that does not help, report it to dotdigital."
        )
