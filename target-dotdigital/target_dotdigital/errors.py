"""Everything that can go wrong, by what the caller should do about it.

A message says what happened, what it means and what to do. It never holds an address of a contact, a secret or a body.
"""

from __future__ import annotations


class TargetError(Exception):
    """The run stops without STATE; the next run does again what was not confirmed."""


class SettingsError(TargetError):
    """A setting cannot mean anything, or contradicts another. Change the settings."""


class StreamError(TargetError):
    """The input is not one that this target can take. Change the tap's selection, or use stream maps."""


class AccountError(TargetError):
    """dotdigital does not let this account do what the settings ask. Change credentials, names or the account."""


class LedgerError(TargetError):
    """The ledger cannot be read or written, or belongs to another run."""


class AgreementError(TargetError):
    """The input builds on a bookmark that this ledger cannot vouch for. Run once with --full-refresh."""


class NoInputError(TargetError):
    """The tap said nothing at all: it failed. Look at its own message."""


class IncompleteInputError(TargetError):
    """The input broke off after some records. They were delivered; the next run gets the rest."""


class ReportError(TargetError):
    """The run ended well, but its report could not be written. Free some space."""


class NotActivatedError(TargetError):
    """Nobody has switched on what this run would do. Read the review, then set the activation code."""


class BrakeError(TargetError):
    """The run would change more than is allowed at once. Look at the report, then release the brakes for a day."""


class DeliveryError(TargetError):
    """Not every contact could be delivered, or accounted for. Run again; look at the report."""


class ApiError(TargetError):
    """dotdigital answered with an error that another try does not mend.

    Args:
        message: for the operator.
        status: the HTTP status; None where no answer came.
        code: dotdigital's own code, such as ERROR_ADDRESSBOOK_DUPLICATE.
        request_id: what dotdigital's support asks for.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None, request_id: str | None = None) -> None:
        """Keep what a caller decides by."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id


class TooManyImportsError(ApiError):
    """All of the account's import slots are taken. Wait until one is free."""


class EndlessListError(ApiError):
    """A list of dotdigital's repeats itself. Run again later.

    Args:
        kind: what the list holds.
    """

    def __init__(self, kind: str) -> None:
        """Say that reading on would never end."""
        super().__init__(
            f"dotdigital: the list of {kind} does not come to an end: its pages hold nothing new. Nothing was written by this call. Run "
            "again later; if it stays so, report it to dotdigital."
        )
