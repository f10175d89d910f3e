"""How imports end, what they report and what reads show of them, while a switch of `deviations.DOTDIGITAL` is on."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from nosto_dotdigital_sandbox.deviating_imports import has_long_value
from nosto_dotdigital_sandbox.rules import instead_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nosto_dotdigital_sandbox.records import Contact, Records


@instead_of("outcome")
def fails_import_over_255(_: Records, documented: Callable[[Any], str], job: Any) -> str:
    """Fail an import with a long value."""
    return "Failed" if any(map(has_long_value, job.contacts)) else documented(job)


@instead_of("outcome")
def invalid_address_fails_import(account: Records, documented: Callable[[Any], str], job: Any) -> str:
    """Fail an import with an invalid address."""
    codes = {account.refusal(row, None, set()) for row in job.contacts}  # type: ignore[attr-defined]  # an Account
    return "Failed" if "invalidEmail" in codes else documented(job)


@instead_of("complete_report")
def report_omits_rows(_: Records, documented: Callable[[Any], None], job: Any) -> None:
    """Leave one created and one updated contact out of the report."""
    documented(job)
    del job.created[:1], job.updated[:1]


@instead_of("complete_report")
def report_without_ids(_: Records, documented: Callable[[Any], None], job: Any) -> None:
    """Remove the contact IDs from the report."""
    documented(job)
    for reference in job.created + job.updated:
        reference.pop("contactId", None)


@instead_of("complete_report")
def reuses_ids(account: Records, documented: Callable[[Any], None], job: Any) -> None:
    """Name, for each contact of the report, the ID of the next one, or of any other contact."""
    documented(job)
    named = job.created + job.updated
    numbers = [reference["contactId"] for reference in named]
    shifted = numbers[1:] + numbers[:1]
    if len(numbers) == 1:
        shifted = [number for number in account.contacts if number not in numbers][:1] or numbers
    for reference, number in zip(named, shifted, strict=True):
        reference["contactId"] = number


# What reads show


@instead_of("finish", "read_back_lags")
def finish_unseen(account: Records, documented: Callable[[Any], None], job: Any) -> None:
    """Keep the contacts as they were, for the next reads."""
    if account.outdated is None:
        account.outdated = copy.deepcopy(account.contacts)
    account.outdated_reads = account.reads_behind
    documented(job)


@instead_of("visible", "read_back_lags")
def visible_later(account: Records, documented: Callable[[], Mapping[int, Contact]]) -> Mapping[int, Contact]:
    """Show the contacts as they were before the last imports, until there were enough reads."""
    if account.outdated is not None and account.outdated_reads > 0:
        account.outdated_reads -= 1
        return account.outdated
    account.outdated = None
    return documented()
