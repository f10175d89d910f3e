"""Leads the target to each outcome of a run, as reports and pages tell them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from support.running import Pipeline, run_target, singer

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = [f"Affinity: Brand {number}" for number in range(1, 13)]


def people(count: int, *names: str, first: int = 0) -> list[dict[str, Any]]:
    return [{"email": f"p{number:04d}@example.com", "segments": list(names)} for number in range(first, first + count)]


def shop() -> list[dict[str, Any]]:
    """Contacts in many segments, two of which have names that one rule confuses."""
    found = [*people(20, "VIP"), *people(10, "VIP Lapsed", first=20), *people(15, first=30)]
    for number, name in enumerate(NAMES):
        found += people(number + 1, name, first=50 + 20 * number)
    return found


def review(pipeline: Pipeline) -> None:
    pipeline.sandbox.account.programs.append({"id": 1, "name": "Welcome", "status": "Active", "dateCreated": ""})
    pipeline.target["activation_code"] = None
    pipeline.load(singer(shop()))


def dry_run(pipeline: Pipeline) -> None:
    pipeline.target["dry_run"] = True
    pipeline.load(singer(shop()))


def braked(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(150, "VIP")))
    pipeline.load(singer(people(40)))


def not_started(pipeline: Pipeline) -> None:
    pipeline.load(singer(shop()))
    pipeline.target["api_password"] = "wrong"
    pipeline.load(singer(shop()))


def failed(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(50, "VIP")))
    pipeline.sandbox.account.forget_rows = 3
    pipeline.load(singer(people(50, "VIP Lapsed")))


def incomplete(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(5, "VIP"), state={"bookmarks": {"people": {"replication_key_value": "2026-11-01"}}}))
    pipeline.load("".join(singer(shop()).splitlines(keepends=True)[:-1]))


def no_input(pipeline: Pipeline) -> None:
    pipeline.load(singer(shop()))
    pipeline.load("")


def restored(pipeline: Pipeline) -> None:
    pipeline.load(singer(people(5, "VIP")))
    pipeline.load(singer(people(5, "VIP Lapsed")))
    outcome = run_target(pipeline.target, "", pipeline.time, restore=True, run=pipeline.report["run"])
    assert outcome.code == 0, outcome.log


def delivered(pipeline: Pipeline) -> None:
    pipeline.sandbox.account.refuse = lambda email: "invalidDomain" if email in {"p0001@example.com", "p0002@example.com"} else None
    pipeline.load(singer(people(20, "VIP")))
    pipeline.load("")
    for day in range(1, 5):
        pipeline.load(singer([*shop(), *people(day, "VIP Lapsed"), *people(3 * day, NAMES[0], first=400)]))
    pipeline.load(singer([*people(2, first=30 - 1), *people(4, "VIP", NAMES[1], first=300), {"email": "nobody", "segments": []}]))


def partly(pipeline: Pipeline) -> None:
    pipeline.target["max_contacts_per_run"] = 12
    pipeline.load(singer(shop()))


def nothing(pipeline: Pipeline) -> None:
    pipeline.load(singer(shop()))
    pipeline.load(singer([]))


#: Kind of page -> what leads to it.
OUTCOMES: dict[str, Callable[[Pipeline], None]] = {
    "review": review,
    "dry run": dry_run,
    "braked": braked,
    "not started": not_started,
    "failed": failed,
    "incomplete": incomplete,
    "no input": no_input,
    "restored": restored,
    "delivered": delivered,
    "partly delivered": partly,
    "nothing to do": nothing,
}
