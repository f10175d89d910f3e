"""A shop, an account and three memories, with a model of what a healthy run has to leave behind.

The model knows nothing of how the plugins work. It is told what happened (an export, a loss, an edit by hand) and computes from the
last export alone what the account has to hold. Three memories may be lost, or put back to how an earlier run left them: the ledger,
Meltano's STATE, and the tap's snapshots.
"""

from __future__ import annotations

import datetime
import enum
import itertools
import json
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nosto_dotdigital_sandbox import Fault, Sandbox
from nosto_dotdigital_sandbox.faults import answer

from support.oracle import BOOK, FIELD, folded
from support.running import HOURS, FakeTime, Outcome, Pipeline, covering, run_target
from support.wire import assert_allowed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from nosto_dotdigital_sandbox import Contact
    from nosto_dotdigital_sandbox.account import Import

SHOPPERS = tuple(f"{letter}@example.com" for letter in "abcdefgh")
# in the account from the beginning: one who has nothing to do with the shop, and one with labels that only dotdigital remembers
STRANGER, ORPHAN = "stranger@example.com", "orphan@example.com"
NAMES = ("A", "B", "C")
# so many that brakes judge them; in each segment, so that only the brake event leaves them without labels
CROWD = tuple(f"z{number:03d}@example.com" for number in range(110))
# what a second stream names, always in full, and nothing else does
STREAM, SECOND_STREAM = "contact_segments", "loyalty"
MEMBERS = ("m@example.com", "n@example.com", "o@example.com")
MAPS = {STREAM: {"segments": "[name.lower() for name in segments]"}}
OTHER_FIELD, OTHER_BOOK = "OTHERFIELD", "Second list"
MEMORIES = ("ledger", "snapshots", "state")
ACTIVATION_LOST = "a mapper drops ACTIVATE_VERSION"
SECOND_DIES = "the second stream dies"
# how dotdigital refuses a call because of a row: with the row's index, or without
REFUSALS = ("refuses_calls", "refuses_calls_silently")
FAULTS = (
    *("drop_before", "drop_after", "cut", "garble", "500 for good", "Failed", "RejectedByWatchdog", "half applied", "fewer rows"),
    *("rejected", "bad row", "stuck", "lost, then retried", ACTIVATION_LOST, SECOND_DIES, "clock ahead"),
)
# how many contacts of the first export the account knew before, and the first day
FIRST_DAY = {"a": "A", "b": "AB", "c": "B", "d": "", "e": "C", "f": "A"}
HEALTHY = frozenset({"delivered", "partly delivered", "nothing to do"})
# longer than any pause before a rejected row is tried again
LONG = 100 * 86_400.0
# a lost attempt at an import is applied within two days, or never
LATEST = 44 * 3600.0

Content = dict[str, list[str]]
Scope = tuple[str, str]  # ledger and data field


class Ending(enum.Enum):
    """What the operator is told of a run."""

    HEALTHY = "healthy"
    REJECTED = "rejected: full refresh needed"
    BRAKED = "braked"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run delivers to, and by which ledger; no address book is without uploads."""

    ledger: str
    field: str
    book: str | None

    @property
    def scope(self) -> Scope:
        """What labels belong to: another address book asks only for membership again."""
        return self.ledger, self.field


@dataclass(slots=True)
class Ledger:
    """A ledger as an earlier moment knows it.

    Args:
        version: another number wherever a run or a command left something else in it.
        files: suffix -> bytes of the database's files.
        held: the contacts that Data Watchdog rejected and that nobody has released since.
    """

    version: int
    files: dict[str, bytes]
    held: dict[Scope, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Backup:
    """All memories as one run left them, and what the account held then."""

    ledgers: dict[str, Ledger]
    place: Place
    state: str | None
    snapshots: dict[str, bytes]
    account: dict[str, Contact]

    @property
    def stored(self) -> frozenset[str]:
        """The ids of the snapshots."""
        return _ids(self.snapshots)


@dataclass(slots=True)
class Edit:
    """What somebody did to one contact behind the target's back.

    Args:
        email: the contact.
        data_field: the field; None where the contact as a whole was touched.
        row_results: what runs had said of the contact up to then: to hear that again is no news.
        read_by: where `reconcile` has seen it since.
        known_to: where it counts no more: the whole account was read, or the source has changed the contact.
    """

    email: str
    data_field: str | None
    row_results: list[list[str] | None]
    read_by: set[Scope] = field(default_factory=set)
    known_to: set[Scope] = field(default_factory=set)


class Days:
    """The world in which days pass, runs are made and things go wrong; every run is judged by the law of the two memories."""

    def __init__(self) -> None:
        """Start the sandbox; nothing is switched on yet."""
        self.folder = Path(tempfile.mkdtemp())
        self.time = FakeTime()
        self.sandbox = Sandbox(clock=self.time.now, wall=self.time.wall)
        self._people()
        self.pipeline = Pipeline(self.sandbox, self.folder, self.time)
        self.pipeline.tap |= {"max_shrink_percent": 100, "max_invalid_lines": len(SHOPPERS)}
        brakes = {"max_change_percent": 100, "max_clear_percent": 50}
        self.pipeline.target |= {
            "contacts_per_import": 3,
            "data_field": FIELD,
            "address_book": BOOK,
            "upload_emails": "all",
            **brakes,
        }
        self._codes: dict[tuple[str, str | None, str], str] = {}
        self._numbers = itertools.count(1)
        # ledger -> version, and what is held in it
        self.versions = dict.fromkeys(("ledger", "second"), 0)
        self.held: dict[Scope, frozenset[str]] = {}
        # attempts at imports whose answer was lost, and that dotdigital has yet to apply: import and the time of the attempt
        self.late: list[tuple[Import, float]] = []
        # whether an address was forgotten since the ledger was last told of every contact
        self.lacks_contacts = False
        self.chosen = frozenset(NAMES)
        self.days: list[Content] = []
        # contacts of the last export whose lines are malformed, and whether their addresses can be read
        self.malformed: frozenset[str] = frozenset()
        self.readable = True
        # what the second stream says; None as long as there is none
        self.members: Content | None = None
        self.ever: set[str] = set()
        self.edits: list[Edit] = []
        # addresses that the target forgot: reading the account back cannot tell it that the source has them
        self.forgotten: list[Edit] = []
        # rejected for a reason that passes: right once they are tried again
        self.waiting: frozenset[str] = frozenset()
        self.attempted: list[Content] = []
        # snapshot -> what it holds, and what was emitted of it; those in which contacts may be missing
        self.stored: dict[str, Content] = {}
        self.contents: dict[str, Content] = {}
        self.incomplete: set[str] = set()
        # where the last healthy run was, and the STATE values that the ledger has acknowledged since anything was lost
        self.settled: Place | None = None
        self.honest: set[str | None] = set()
        self.unfinished = False
        self.ending: Ending | None = None
        self.last_sent: tuple[Place, int, int] | None = None
        self.backups: list[Backup] = []
        self.left = self._backup()

    def begin(self) -> None:
        """Switch the sync on, and make the first run."""
        self._activate()
        self.put({f"{letter}@example.com": list(names) for letter, names in FIRST_DAY.items()})
        self.run()

    def close(self) -> None:
        """Stop the sandbox."""
        self.sandbox.close()
        shutil.rmtree(self.folder)

    def _people(self) -> None:
        account = self.sandbox.account
        news = next(iter(account.books))
        consent = [{"text": "Yes, please", "dateTimeConsented": "2024-01-01T00:00:00Z"}]
        account.add_field(FIELD)
        account.add_contact(SHOPPERS[0], status="unsubscribed", opt_in_type="Double", preferences={7: True}, consent=consent)
        account.add_contact(STRANGER, opt_in_type="Single", lists={news}, data_fields={"FIRSTNAME": "Stella"})
        account.add_contact(ORPHAN, data_fields={FIELD: "Old"})

    # What the source says

    @property
    def content(self) -> Content:
        """The last export."""
        return self.days[-1]

    @property
    def has_crowd(self) -> bool:
        """Whether the last export has so many contacts that brakes judge them."""
        return CROWD[0] in self.content

    def known(self) -> Content:
        """What is known of each address, the selection applied: lines that cannot be read leave what was known before."""
        content = {email: names for email, names in self.content.items() if email not in self.malformed}
        before = self.stored.get(self._newest or "", {})
        unknown = self.malformed if self.readable else before.keys()
        kept = {email: before[email] for email in before if email in unknown}
        return {email: sorted(set(names) & self.chosen) for email, names in (kept | content).items()}

    def wanted(self) -> Content:
        """What the tap says of each address."""
        is_mapped = "stream_maps" in self.pipeline.tap
        return {email: [name.lower() if is_mapped else name for name in names] for email, names in self.known().items()}

    def should(self) -> Content:
        """What all streams say of each address."""
        return self.wanted() | (self.members or {})

    def edited(self, edits: Collection[tuple[str, str]]) -> Content:
        """Give the last export with small edits; the last one itself where they would leave nothing that is chosen.

        Args:
            edits: contact and either a name, which is given or taken, or "there", by which the contact comes or goes.
        """
        content = {email: list(names) for email, names in self.content.items()}
        for email, what in edits:
            if what == "there":
                if content.pop(email, None) is None:
                    content[email] = []
            else:
                content[email] = sorted(set(content.get(email, [])) ^ {what})
        return self.again(content)

    def again(self, content: Content) -> Content:
        """Give a content if it has anything that is chosen, as the tap asks for; otherwise the last export."""
        return content if _names(content) & self.chosen else self.content

    def with_crowd(self) -> Content:
        """Give the last export with so many contacts that brakes judge them."""
        self.pipeline.target["contacts_per_import"] = 40
        return self.content | {email: list(NAMES) for email in CROWD}

    def without_crowd(self) -> Content:
        """Give the last export without most of its contacts."""
        return {email: names for email, names in self.content.items() if email not in CROWD}

    def put(self, content: Content, malformed: Collection[str] = (), *, readable: bool = True) -> None:
        """Put a day's export at Nosto, a day after the last.

        Args:
            content: contact -> segments.
            malformed: contacts whose lines cannot be read, unless the rest would have nothing that is chosen.
            readable: whether the addresses in these lines can be read.
        """
        self.days.append(content)
        self.ever |= set(content)
        self.time.seconds += 86_400
        rest = {email: names for email, names in content.items() if email not in malformed}
        self.malformed = frozenset(malformed) & content.keys() if _names(rest) & self.chosen else frozenset()
        # without a malformed line, nothing is hidden
        self.readable = readable or not self.malformed
        lines = [json.dumps({"email": email, "nosto_segments": names}) for email, names in content.items()]
        for place, email in enumerate(content):
            if email in self.malformed:
                lines[place] = json.dumps({"email": email}) if readable else '{"ema'
        self.pipeline.export("".join(f"{line}\n" for line in lines).encode(), len(self.days))

    @property
    def readable_names(self) -> set[str]:
        """The segments in the lines of the last export that can be read."""
        return _names({email: names for email, names in self.content.items() if email not in self.malformed})

    def map_names(self, *, mapped: bool) -> None:
        """Change the tap's stream maps."""
        self.pipeline.tap.pop("stream_maps", None)
        if mapped:
            self.pipeline.tap["stream_maps"] = MAPS

    def join(self, members: Content) -> None:
        """Let a second stream feed the data field, too, or say something else from now on."""
        self.members = members
        self.ever |= set(members)
        self._activate()

    def _joined(self, text: str, until: int | None = None) -> str:
        """Join the second stream to what the tap has emitted, behind the STATE that it starts from.

        Args:
            text: what the tap has emitted.
            until: number of messages after which the stream dies.
        """
        if self.members is None or not text:
            return text
        version = next(self._numbers)
        common: dict[str, Any] = {"stream": SECOND_STREAM, "version": version}
        properties = {"email": {"type": "string"}, "segments": {"type": "array"}}
        messages: list[dict[str, Any]] = [
            {"type": "SCHEMA", "stream": SECOND_STREAM, "schema": {"properties": properties}, "key_properties": ["email"]},
            *(
                {"type": "RECORD", **common, "record": {"email": email, "segments": names}}
                for email, names in sorted(self.members.items())
            ),
            {"type": "ACTIVATE_VERSION", **common},
        ]
        lines = text.splitlines(keepends=True)
        place = int('"STATE"' in lines[0])
        # a STATE follows in any case; the tap alone does not repeat one that has not changed
        last = [line for line in lines if '"STATE"' in line][-1:]
        lines[place:place] = [json.dumps(message) + "\n" for message in messages[:until]]
        return "".join(lines + last)

    def choose(self, names: Collection[str]) -> None:
        """Choose segments, of which the export has at least one."""
        self.chosen = frozenset(names)
        self.pipeline.tap["segments"] = sorted(names)

    # What the operator sets

    @property
    def place(self) -> Place:
        """Where the settings point to."""
        target = self.pipeline.target
        return Place(self.ledger, target["data_field"], None if target["upload_emails"] == "none" else target["address_book"])

    @property
    def scope(self) -> Scope:
        """Ledger and data field that the settings name."""
        return self.place.scope

    @property
    def ledger(self) -> str:
        """The ledger that the settings name."""
        return Path(self.pipeline.target["ledger_url"]).stem

    def deliver_to(self, **settings: Any) -> None:
        """Change where runs deliver to, and agree to it."""
        self.pipeline.target |= settings
        self._activate()

    def use_the_other_ledger(self) -> None:
        """Change to the other ledger and its folder of reports."""
        # another ledger does not know of them
        self.land()
        name = "second" if self.ledger == "ledger" else "ledger"
        reports = "reports" if name == "ledger" else "second reports"
        self.pipeline.target |= {"ledger_url": f"sqlite:///{self.folder / f'{name}.db'}", "report_dir": str(self.folder / reports)}

    def _activate(self) -> None:
        key = (self.place.field, self.place.book, self.pipeline.target["upload_emails"])
        target = self.pipeline.target
        if key not in self._codes:
            self._calm()
            # to look at the review must leave no trace in the ledgers that the test is about
            kept = {name: target[name] for name in ("ledger_url", "report_dir")}
            target |= {"ledger_url": f"sqlite:///{self.folder / 'review.db'}", "report_dir": str(self.folder / "reports")}
            self._codes[key] = self.pipeline.activate("contact_segments")
            target |= kept
        code = self._codes[key]
        target["activation_code"] = code if self.members is None else covering(code, [STREAM, SECOND_STREAM])

    # Runs

    def run(self, *, whole: bool = False, override: bool = False, fault: str | None = None, nth: int = 1) -> Ending:
        """Run once, and hold how it ended against the law.

        Args:
            whole: with full refresh.
            override: without brakes.
            fault: what goes wrong on the way.
            nth: at which call, where that matters.
        """
        self._calm()
        if self.waiting and fault is None:
            self.time.seconds += LONG
        self.land(overdue=True)
        if whole or self.only_dotdigital_could_know():
            self.pipeline.state = None
        whole = self.pipeline.state is None
        disturbed, may_be_refused, is_steady = self.disturbed, self.may_be_refused, self.is_steady
        before = self._begin()
        self._strike(fault, nth)
        self._override(override=override)
        outcome = self.pipeline.run()
        report = self._report()
        ending = _ending(outcome, report)
        self._note(fault)
        self._assert_untouched(before)
        self._assert_braked(ending, before, override=override)
        self._assert_proven(ending, fault, before, whole=whole, says_nothing=nth % 2 == 0, is_steady=is_steady)
        self.ending = ending
        match ending:
            case Ending.REJECTED:
                assert may_be_refused, f"rejected although every memory is as the last run left it: {outcome.errors}"
                self._assert_nothing_written()
            case Ending.BRAKED:
                self._assert_nothing_written()
            case Ending.FAILED:
                assert fault is not None or self.held.get(self.scope), f"failed although nothing went wrong: {outcome.log}"
            case Ending.HEALTHY:
                self._settle(report, whole=whole and self.is_proof, disturbed=disturbed, fault=fault)
        if not (disturbed or may_be_refused) or ending is Ending.HEALTHY:
            self.left = self._backup()
        self.backups.append(self._backup())
        if ending is Ending.HEALTHY and not self.unfinished:
            self._assert_right(before, is_steady=is_steady)
        return ending

    def _override(self, *, override: bool) -> None:
        """Switch the brakes off for the day of the run that follows, or on."""
        target = self.pipeline.target
        target.pop("brake_override_date", None)
        if override:
            moment = datetime.datetime.fromtimestamp(self.time.wall() + HOURS + self.time.ahead, datetime.UTC)
            target["brake_override_date"] = moment.date().isoformat()

    def _begin(self) -> dict[str, Contact]:
        """Forget what was on the wire and in the report; give the account as it is."""
        self.sandbox.journal.clear()
        self._report_file.unlink(missing_ok=True)
        return folded(self.sandbox.account.snapshot())

    @property
    def _report_file(self) -> Path:
        return Path(self.pipeline.target["report_dir"]) / "report.json"

    def _report(self) -> dict[str, Any]:
        """The report of this very run: empty if it wrote none."""
        if not self._report_file.exists():
            return {}
        facts: dict[str, Any] = json.loads(self._report_file.read_text())
        return facts

    def _calm(self) -> None:
        """End all faults, and let dotdigital do what it has accepted."""
        self.sandbox.faults.clear()
        account = self.sandbox.account
        account.outcomes, account.partial, account.forget_rows, account.import_polls = [], 1.0, 0, 1
        account.refuse = lambda _email: None
        account.deviations.clear()
        self.pipeline.between, self.time.ahead = self._joined, 0.0
        account.settle()

    def _strike(self, fault: str | None, nth: int) -> None:  # noqa: C901, PLR0912 - one case for each fault
        account = self.sandbox.account
        match fault:
            case None:
                pass
            case "500 for good":
                self.sandbox.faults.add(Fault("answer", service=None, nth=nth, times=999, response=answer(500)))
            case "Failed" | "RejectedByWatchdog":
                account.outcomes = [fault] * 2
            case "half applied":
                account.outcomes, account.partial = ["Failed", "Failed"], 0.5
            case "fewer rows":
                account.forget_rows = 1
            case "stuck":
                account.import_polls = 10_000
            case "lost, then retried":
                account.import_polls = 10_000
                keep = Fault("drop_after", method="PUT", after=lambda _: self._keep_late())
                # the imports before that one are processed as usual
                self.sandbox.faults.add(Fault("rewrite", method="PUT", times=nth % 3, rewrite=lambda one: one, after=self._finish))
                self.sandbox.faults.add(keep)
            case "rejected" | "bad row":
                account.refuse = lambda email: "tooBusy" if email < "c" else None
                if fault == "bad row":
                    account.deviations.add(REFUSALS[nth % 2])
            case "a mapper drops ACTIVATE_VERSION":
                self.pipeline.between = lambda text: _without_activation(self._joined(text))
            case "the second stream dies":
                # before its SCHEMA, or after its first record
                self.pipeline.between = partial(self._joined, until=nth % 2 * 2)
            case "clock ahead":
                self.time.ahead = 3 * 3600.0
            case _:
                self.sandbox.faults.add(Fault(fault, service=None, nth=nth))  # type: ignore[arg-type]  # one of the kinds

    def _finish(self, _request: object) -> None:
        """Let dotdigital process what it has accepted so far, except what is late."""
        self.sandbox.account.settle()

    def _keep_late(self) -> None:
        """Keep back the import that was accepted last; its answer is about to be lost."""
        account = self.sandbox.account
        account.import_polls = 1
        key = next(reversed(account.imports))
        self.late.append((account.imports.pop(key), self.time.wall()))

    def land(self, *, overdue: bool = False) -> None:
        """Let dotdigital apply attempts at imports whose answer was lost.

        Args:
            overdue: only those that it will not apply later than this.
        """
        account, now = self.sandbox.account, self.time.wall()
        landed = [one for one in self.late if not overdue or now - one[1] > LATEST]
        self.late = [one for one in self.late if one not in landed]
        for job, _ in landed:
            account.imports[job.id] = job
            account.settle()

    def _note(self, fault: str | None) -> None:
        """Learn what a run has stored, sent and been rejected, whatever became of it."""
        known, wanted, newest = self.known(), self.wanted(), self._newest
        for snapshot in self._snapshots() - self.stored.keys():
            self.stored[snapshot], self.contents[snapshot] = known, wanted
            if self.malformed and (newest is None or newest in self.incomplete):
                self.incomplete.add(snapshot)
        self.attempted.append(wanted)
        if self.sandbox.journal.imports():
            self.versions[self.ledger] = next(self._numbers)
        if fault in {"rejected", "bad row"}:
            self.waiting = frozenset(SHOPPERS[:2])
        self.held[self.scope] = self.held.get(self.scope, frozenset()) | self._rejected()

    def _rejected(self) -> set[str]:
        """The contacts of the imports that Data Watchdog rejected."""
        account, found = self.sandbox.account, set()
        for call in self.sandbox.journal.imports():
            if call.status == 202 and account.imports[json.loads(call.answer or b"")["importId"]].outcome == "RejectedByWatchdog":
                for row in call.json()["contacts"]:
                    (who,) = row["identifiers"].values()
                    found.add(account.contacts[who].email if isinstance(who, int) and who in account.contacts else str(who))
        return found

    def _settle(self, report: dict[str, Any], *, whole: bool, disturbed: bool, fault: str | None) -> None:
        """Take a healthy run into account: from now on the memories have to agree."""
        place, scope, wanted = self.place, self.scope, self.wanted()
        # the members of another address book are read back, and with them the whole account
        compared = whole or (
            self.settled is not None and place.book not in {None, self.settled.book} and scope == self.settled.scope
        )
        for edit in self.edits:
            if compared or scope in edit.read_by or wanted.get(edit.email) not in edit.row_results:
                edit.known_to.add(scope)
        for edit in self.forgotten:
            if whole or wanted.get(edit.email) not in edit.row_results:
                edit.known_to.add(scope)
        self.lacks_contacts = self.lacks_contacts and not whole
        if fault is None:
            self.waiting = frozenset()
        self.versions[self.ledger] = next(self._numbers)
        self.attempted = [wanted]
        self.settled = place
        self.honest = {_text(self.pipeline.state)} | (set() if disturbed else self.honest)
        self.unfinished = bool(report["left_for_later"])
        if report["sent"]:
            self.last_sent = (place, self.versions[self.ledger], report["run"])

    # Commands

    def reconcile(self) -> None:
        """Read dotdigital back into the ledger."""
        agreed = not self.disturbed
        self._command(reconcile=True)
        self.versions[self.ledger] = next(self._numbers)
        if agreed:
            self.left = self._backup()
            unknown = {one.email for one in self.forgotten if self.scope not in one.known_to}
            for edit in self.edits:
                if edit.email not in unknown:
                    edit.read_by.add(self.scope)
        self.backups.append(self._backup())

    def forget(self, email: str) -> None:
        """Have the target forget an address."""
        if self.unfinished or email in self.exempt:
            # what was still to be sent is forgotten with it
            self._edited(email, None)
        self.forgotten.append(self._edit(email, None))
        self.lacks_contacts = True
        self._calm()
        self._begin()
        outcome = run_target(self.pipeline.target, "", self.time, forget=email)
        assert outcome.code == 0 or "stores nothing about that address" in outcome.errors[-1], outcome.log
        assert not self.sandbox.journal.writes()

    def release(self) -> None:
        """Release what Data Watchdog rejected."""
        self._begin()
        run_target(self.pipeline.target, "", self.time, release=True)
        self.held.pop(self.scope, None)

    def put_back(self) -> None:
        """Put back what the last run replaced; only a full refresh brings it again."""
        assert self.last_sent is not None
        self._calm()
        before = self._begin()
        run_target(self.pipeline.target, "", self.time, restore=True, run=self.last_sent[2])
        self._assert_untouched(before)
        self.versions[self.ledger] = next(self._numbers)
        self.backups.append(self._backup())

    @property
    def can_put_back(self) -> bool:
        """Whether the ledger is as the last run left it, and that run sent something."""
        return self.last_sent is not None and self.last_sent[:2] == (self.place, self.versions[self.ledger])

    def _command(self, **options: Any) -> None:
        self._calm()
        self._begin()
        outcome = run_target(self.pipeline.target, "", self.time, **options)
        assert outcome.code == 0, f"{options} failed: {outcome.log}"
        assert not self.sandbox.journal.writes(), f"{options} wrote to dotdigital"

    # What people do in dotdigital

    def edit(self, email: str, value: str | None) -> None:
        """Change a contact's labels by hand."""
        self._calm()
        if email in self.sandbox.account.by_email:
            self.sandbox.account.edit(email, self.place.field, value)
            self._edited(email, self.place.field)

    def delete(self, email: str) -> None:
        """Delete a contact by hand."""
        self._calm()
        if email in self.sandbox.account.by_email:
            self.sandbox.account.remove_contact(email)
            self._edited(email, None)

    def _edited(self, email: str, name: str | None) -> None:
        self.edits.append(self._edit(email, name))

    def _edit(self, email: str, name: str | None) -> Edit:
        return Edit(email, name, [wanted.get(email) for wanted in self.attempted])

    # Memories

    def lose(self, memories: Collection[str]) -> None:
        """Lose memories altogether."""
        if "ledger" in memories:
            self.land()
            self._write_ledger(Ledger(-next(self._numbers), {}, {}))
        if "snapshots" in memories:
            self._write_snapshots({})
        if "state" in memories:
            self.pipeline.state = None

    def bring_back(self, memories: Collection[str], ago: int) -> None:
        """Put memories back to how an earlier run left them; 0 ago is how the last one did."""
        backup = self.backups[max(0, len(self.backups) - 1 - ago)]
        if "ledger" in memories:
            self.land()
            self._write_ledger(backup.ledgers[self.ledger])
        if "snapshots" in memories:
            self._write_snapshots(backup.snapshots)
        if "state" in memories:
            self.pipeline.state = None if backup.state is None else json.loads(backup.state)

    def _backup(self) -> Backup:
        ledgers = {
            name: Ledger(
                version,
                {
                    suffix: path.read_bytes()
                    for suffix in ("", "-wal", "-shm")
                    if (path := self.folder / f"{name}.db{suffix}").exists()
                },
                {scope: emails for scope, emails in self.held.items() if scope[0] == name},
            )
            for name, version in self.versions.items()
        }
        snapshots = {path.name: path.read_bytes() for path in (self.folder / "snapshots").glob("*")}
        account = folded(self.sandbox.account.snapshot())
        return Backup(ledgers, self.place, _text(self.pipeline.state), snapshots, account)

    def _write_ledger(self, ledger: Ledger) -> None:
        name = self.ledger
        for suffix in ("", "-wal", "-shm"):
            (self.folder / f"{name}.db{suffix}").unlink(missing_ok=True)
        for suffix, content in ledger.files.items():
            (self.folder / f"{name}.db{suffix}").write_bytes(content)
        self.versions[name] = ledger.version
        self.held = {scope: emails for scope, emails in self.held.items() if scope[0] != name} | ledger.held
        for edit in self.edits:
            edit.read_by = {scope for scope in edit.read_by if scope[0] != name}

    def _write_snapshots(self, files: dict[str, bytes]) -> None:
        folder = self.folder / "snapshots"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        for name, content in files.items():
            (folder / name).write_bytes(content)

    def _snapshots(self) -> frozenset[str]:
        return _ids(path.name for path in (self.folder / "snapshots").glob("*"))

    @property
    def is_proof(self) -> bool:
        """Whether nobody is missing in the newest snapshot, so that contacts that a full input does not mention were removed."""
        return self._newest not in self.incomplete

    @property
    def _newest(self) -> str | None:
        """The newest snapshot that earlier runs have left."""
        return max(self._snapshots() & self.stored.keys(), default=None)

    # The law

    @property
    def disturbed(self) -> bool:
        """Whether a memory is not as the last run that could rely on it left it."""
        return (
            self.settled is None
            or self.scope != self.settled.scope
            or self.versions[self.ledger] != self.left.ledgers[self.ledger].version
            or not self.left.stored <= self._snapshots()
        )

    @property
    def is_steady(self) -> bool:
        """Whether nothing is pending in the ledger, so that a run sends only what its input says."""
        is_same = self.settled is not None and self.scope == self.settled.scope
        return (
            is_same
            and self.ending is Ending.HEALTHY
            and self.versions[self.ledger] == self.left.ledgers[self.ledger].version
            and not (self.unfinished or self.late)
        )

    @property
    def may_be_refused(self) -> bool:
        """Whether a run may stop and ask for a full refresh.

        Without STATE everything is told anew, and without any snapshot too: there is nothing to disagree about. A STATE that the
        ledger acknowledged before its last one is no disagreement either: snapshots tell what came after it.
        """
        if self.pipeline.state is None:
            return False
        if self.malformed and not self._snapshots():
            # the export says nothing of contacts that may have changed since the bookmark
            return True
        if self.lacks_contacts:
            # the ledger may lack a contact of the source, and some runs need to know all
            return True
        known = (
            self.settled is not None
            and self.scope == self.settled.scope
            and self.versions[self.ledger] == self.left.ledgers[self.ledger].version
        )
        snapshots = self._snapshots()
        whole = self.left.stored <= snapshots or not snapshots
        return not (known and whole and _text(self.pipeline.state) in self.honest)

    def only_dotdigital_could_know(self) -> bool:
        """Say whether what is left of the memories fits an earlier moment so well that nothing on our side shows the difference.

        That is so if ledger and snapshots stand at one earlier moment, with the STATE of that moment (or one from before it: a STATE
        that lost its last value has to be accepted), and the account has changed since in a contact that the tap has no reason to
        name. Snapshots that came later do not count as a sign: a tap whose loader failed leaves such behind. This is the one
        precondition of the law: whoever brings all memories back at once has to run with full refresh.
        """
        state, stored = _text(self.pipeline.state), self._snapshots()
        base = min((snapshot for snapshot in stored if snapshot in (state or "")), default=None)
        if base is None:
            return False
        wanted, now = self.wanted(), folded(self.sandbox.account.snapshot())
        at_base, later = self.contents[base], [self.contents[snapshot] for snapshot in stored if snapshot > base]
        states = set()
        for then in self.backups:
            states.add(then.state)
            same = then.ledgers[self.ledger].version == self.versions[self.ledger]
            if not (same and state in states and {one for one in then.stored if one >= base} <= stored):
                continue
            for email in {*then.account, *now} - self.exempt - {*MEMBERS}:
                before, after, should = self._seen(then.account, email), self._seen(now, email), wanted.get(email)
                # named, and for a reason that an honest ledger could not have: what it says cannot be taken for delivered
                told_again = any(content.get(email) != should for content in later)
                # named, and unlike what the ledger remembers: it is sent, whatever dotdigital holds
                news = at_base.get(email) != should and before is not None and before[1] != (";".join(should or []) or None)
                replaced = before is not None and after is not None and before[0] != after[0]
                if before != after and (replaced or not (told_again or news)):
                    return True
        return False

    @property
    def exempt(self) -> set[str]:
        """The contacts of which nobody on our side can know, or that have to wait, each for a reason that the model was row_results."""
        scope, name = self.scope, self.place.field
        edited = {edit.email for edit in self.edits if edit.data_field in {None, name} and scope not in edit.known_to}
        return edited | self.waiting | self.held.get(scope, frozenset())

    def _seen(self, account: dict[str, Contact], email: str) -> tuple[int, object, bool] | None:
        if email not in account:
            return None
        contact = account[email]
        return contact.id, contact.data_fields.get(self.place.field), self._book in contact.lists

    def _foreign(self, contact: Contact) -> Contact:
        """What of a contact is never ours."""
        fields = {name: value for name, value in contact.data_fields.items() if name != self.place.field}
        return replace(contact, data_fields=fields, lists=set(), updated="")

    @property
    def _book(self) -> int | None:
        book = self.sandbox.account.book_named(self.place.book) if self.place.book else None
        return book.id if book else None

    def _is_created(self, names: list[str] | None) -> bool:
        """Return whether a contact with these segments has to be there, and in the address book."""
        match self.pipeline.target["upload_emails"]:
            case "all":
                return names is not None
            case "with_segments":
                return bool(names)
            case _:
                return False

    def _assert_right(self, before: dict[str, Contact], *, is_steady: bool) -> None:
        """The account is what the last export says, and nothing else; lines that cannot be read leave what was there before."""
        account, wanted, place, exempt = folded(self.sandbox.account.snapshot()), self.should(), self.place, self.exempt
        for email in sorted({*account, *wanted} - exempt):
            created = self._is_created(wanted.get(email))
            if email not in account:
                assert not created, f"{email} is missing in dotdigital after a healthy run"
                continue
            holds, should = account[email].data_fields.get(place.field, ""), ";".join(wanted.get(email, []))
            if not self.is_proof and email not in wanted and email in before:
                kept = before[email].data_fields.get(place.field, "")
                # whether another contact was removed may not be known
                if holds == kept or (is_steady and email in self.malformed):
                    should = kept
            assert holds == should, f"{email} holds {holds!r} in {place.field} after a healthy run, and should hold {should!r}"
            if created:
                assert self._book in account[email].lists, f"{email} is not in {place.book!r} after a healthy run"

    def _assert_nothing_written(self) -> None:
        written = [f"{call.method} {call.path}" for call in self.sandbox.journal.writes()]
        assert not written, f"stopped, but something was written before: {written}"

    def _assert_braked(self, ending: Ending, before: dict[str, Contact], *, override: bool) -> None:
        """Brakes stop a run that would clear most of the labelled contacts, and no other."""
        wanted = self.should()
        labelled = {email for email, contact in before.items() if contact.data_fields.get(self.place.field)}
        cleared = {email for email in labelled - self.exempt if not wanted.get(email)}
        # the crowd comes and goes as a whole, so a few contacts decide nothing
        if ending is Ending.BRAKED:
            assert not override, "braked in spite of the override"
            assert len(labelled) > 90, f"braked with {len(labelled)} labelled contacts"
            assert len(cleared) > 0.4 * len(labelled), f"braked, to clear {len(cleared)} of {len(labelled)}"
        if ending is Ending.HEALTHY and not override and self.is_proof:
            assert len(labelled) < 110 or len(cleared) < 0.6 * len(labelled), f"cleared {len(cleared)} of {len(labelled)}"

    def _assert_proven(
        self, ending: Ending, fault: str | None, before: dict[str, Contact], *, whole: bool, says_nothing: bool, is_steady: bool
    ) -> None:
        """A run is not healthy if a stream ended without its proof, and contacts that this stream did not mention are as they were.

        Changes of a stream that says nothing at all are not missed.
        """
        if fault not in {ACTIVATION_LOST, SECOND_DIES} or (self.members is None and fault == SECOND_DIES):
            return
        is_announced = self.members is not None and not (fault == SECOND_DIES and says_nothing)
        if is_announced or (whole and self.is_proof):
            assert ending is not Ending.HEALTHY, "healthy although the input was no proof"
        if fault == SECOND_DIES and is_steady:
            now, name = folded(self.sandbox.account.snapshot()), self.place.field
            mentioned = set() if says_nothing else {min(self.members or MEMBERS)}
            for email in set(MEMBERS) & before.keys() - mentioned:
                assert now[email].data_fields.get(name) == before[email].data_fields.get(name), f"{email} was not mentioned"

    def _assert_untouched(self, before: dict[str, Contact]) -> None:
        """Whatever happened, all that is not ours is as it was."""
        assert_allowed(self.sandbox, (OTHER_FIELD,))
        now, place = folded(self.sandbox.account.snapshot()), self.place
        for email, old in before.items():
            assert email in now, f"{email} was deleted"
            new = now[email]
            assert self._foreign(new) == self._foreign(old), f"{email} was changed beyond its labels: {old} became {new}"
            joined = new.lists ^ old.lists
            assert not joined or (joined == {self._book} and email in self.ever), f"{email}: address books changed by {joined}"
        for email in set(now) - set(before):
            assert place.book is not None, f"{email} was created although uploads are off"
            assert email in self.ever, f"{email} was created, and no export has ever named it"
            new = now[email]
            assert (new.status, new.opt_in_type, new.consent, new.preferences) == ("subscribed", "Unknown", [], {}), (
                f"{email}: {new}"
            )
            assert set(new.data_fields) <= {place.field}, f"{email} was created with other fields: {new.data_fields}"
            assert new.lists <= {self._book}, f"{email} was put into other address books: {new.lists}"


def _without_activation(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if '"ACTIVATE_VERSION"' not in line)


def _ending(outcome: Outcome, report: dict[str, Any]) -> Ending:
    """Say what the operator is told; an exit code and a report that contradict each other are a failure of the test."""
    if outcome.code == 0:
        assert report.get("outcome") in HEALTHY, f"exit code 0 with the report {report.get('outcome')!r}: {outcome.log}"
        return Ending.HEALTHY
    if report.get("outcome") == "braked":
        return Ending.BRAKED
    if any("--full-refresh" in line for line in outcome.errors):
        return Ending.REJECTED
    return Ending.FAILED


def _ids(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith("."))


def _names(content: Content) -> set[str]:
    return set(itertools.chain.from_iterable(content.values()))


def _text(state: dict[str, Any] | None) -> str | None:
    return None if state is None else json.dumps(state, sort_keys=True)
