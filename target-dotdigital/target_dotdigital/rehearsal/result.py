"""The result of a rehearsal: one finding per assumption. No I/O."""

from __future__ import annotations

import collections
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from target_dotdigital.rehearsal.assumptions import ASSUMPTIONS
from target_dotdigital.reporting.checklist import CHECKLIST

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable

VERSION = 1


class AssumptionVerdict(enum.StrEnum):
    """Whether an assumption holds for this account."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    NOT_TESTED = "not tested"


class Finding(msgspec.Struct, frozen=True):
    """What the rehearsal found out about one assumption.

    Args:
        assumption: ID of the assumption.
        verdict: whether it holds.
        seen: what was seen; for `not tested`, the reason. Contains no address.
        advice: what to do, if it is more specific than the assumption's consequence.
    """

    assumption: str
    verdict: AssumptionVerdict
    seen: str
    advice: str = ""


def confirmed(assumption: str, seen: str) -> Finding:
    """Return the finding that an assumption holds."""
    return Finding(assumption, AssumptionVerdict.CONFIRMED, seen)


def refuted(assumption: str, seen: str, advice: str = "") -> Finding:
    """Return the finding that an assumption does not hold."""
    return Finding(assumption, AssumptionVerdict.REFUTED, seen, advice)


def not_tested(assumption: str, reason: str) -> Finding:
    """Return the finding that an assumption could not be tested."""
    return Finding(assumption, AssumptionVerdict.NOT_TESTED, reason)


def judged(assumption: str, seen: str, *, holds: bool, advice: str = "") -> Finding:
    """Return a finding that confirms or refutes."""
    return confirmed(assumption, seen) if holds else refuted(assumption, seen, advice)


def sentence(parts: Iterable[str]) -> str:
    """Join parts into one sentence."""
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


@dataclass(frozen=True, slots=True)
class RehearsalResult:
    """The result of a rehearsal. Contains no address.

    Args:
        account_id: the account's ID in dotdigital.
        account: its name.
        region: base URL of its region.
        started_at: time of the first call, of the first attempt if the rehearsal was interrupted.
        finished_at: time of the last call.
        read_only: whether nothing was written.
        address_book: name of the rehearsal's address book.
        data_field: name of the rehearsal's data field.
        addresses: what each address was used for.
        findings: one per assumption that was reached.
        reason: why the other assumptions were not tested.
        max_value_length: recommended setting; None if unknown.
        forecast: sentences about a first load.
        cleanup: what to remove by hand.
        calls: number of calls by kind.
    """

    account_id: int
    account: str
    region: str
    started_at: datetime.datetime
    finished_at: datetime.datetime
    read_only: bool
    address_book: str
    data_field: str
    addresses: tuple[str, ...]
    findings: tuple[Finding, ...]
    reason: str
    max_value_length: int | None = None
    forecast: tuple[str, ...] = ()
    cleanup: tuple[str, ...] = ()
    calls: dict[str, int] = field(default_factory=dict)

    @property
    def complete(self) -> list[Finding]:
        """One finding per assumption, in the order of the assumptions."""
        found = {finding.assumption: finding for finding in self.findings}
        return [found.get(one.id) or not_tested(one.id, self.reason) for one in ASSUMPTIONS]

    @property
    def counts(self) -> dict[str, int]:
        """Number of assumptions by verdict."""
        counted = collections.Counter(finding.verdict for finding in self.complete)
        return {verdict.value: counted[verdict] for verdict in AssumptionVerdict}

    def having(self, verdict: AssumptionVerdict) -> list[str]:
        """Return the IDs of the assumptions with a verdict."""
        return [finding.assumption for finding in self.complete if finding.verdict is verdict]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values; the keys are a public interface."""
        return {
            "version": VERSION,
            "account": {"id": self.account_id, "name": self.account, "region": self.region},
            "started_at": self.started_at.isoformat(),
            "finished_at": self.finished_at.isoformat(),
            "read_only": self.read_only,
            "address_book": self.address_book,
            "data_field": self.data_field,
            "addresses": list(self.addresses),
            "counts": self.counts,
            "findings": list(_described(self.complete)),
            "settings": {} if self.max_value_length is None else {"max_value_length": self.max_value_length},
            "forecast": list(self.forecast),
            "cleanup": list(self.cleanup),
            "checklist": [{"question": question, "where": where} for question, where in CHECKLIST],
            "calls": self.calls,
        }


def _described(findings: Iterable[Finding]) -> Iterable[dict[str, Any]]:
    for assumption, finding in zip(ASSUMPTIONS, findings, strict=True):
        refutes = finding.verdict is AssumptionVerdict.REFUTED
        yield {
            "id": assumption.id,
            "title": assumption.title,
            "statement": assumption.statement,
            "source": assumption.source,
            "grade": assumption.grade,
            "check": assumption.check,
            "expected": assumption.expected,
            "verdict": finding.verdict.value,
            "seen": finding.seen,
            "if_wrong": assumption.if_wrong,
            "by_hand": assumption.by_hand,
            "consequence": (finding.advice or assumption.consequence) if refutes else "",
        }
