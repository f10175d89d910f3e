"""Whatever happens in whatever order: after every clean run the account and the model agree."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from nosto_dotdigital_sandbox import Fault, Sandbox
from nosto_dotdigital_sandbox.faults import answer
from support.oracle import FIELD, folded
from support.running import FakeTime, Pipeline, run_target
from support.wire import assert_allowed

EMAILS = [f"{name}@example.com" for name in "abcdef"]
NAMES = ["A", "B", "C"]
CONTENT = st.dictionaries(st.sampled_from(EMAILS), st.lists(st.sampled_from(NAMES), max_size=3), min_size=1)
FAULTS = st.sampled_from(
    [
        "drop_before",
        "drop_after",
        "cut",
        "garble",
        "500 for good",
        "Failed",
        "RejectedByWatchdog",
        "half applied",
        "fewer rows",
        "refused",
    ]
)


class Days(RuleBasedStateMachine):
    """A shop, an account, and a person who edits, loses and restores things."""

    @initialize()
    def begin(self) -> None:
        """Switch everything on."""
        self.folder = Path(tempfile.mkdtemp())
        self.time = FakeTime()
        self.sandbox = Sandbox(clock=self.time.now, wall=self.time.wall)
        self.pipeline = Pipeline(self.sandbox, self.folder, self.time)
        self.pipeline.tap |= {"max_shrink_percent": 100}
        self.pipeline.target |= {"contacts_per_import": 2, "max_change_percent": 100, "max_clear_percent": 100}
        self.pipeline.activate()
        self.day = 0
        self.export: dict[str, list[str]] = {}
        self.clean = False
        # contacts whose labels nobody but `reconcile` can know to be wrong
        self.unseen: set[str] = set()
        self.lost_ledger = self.lost_snapshots = False
        self.put({"a@example.com": ["A"]})

    def put(self, content: dict[str, list[str]]) -> None:
        """Put a day's export at Nosto."""
        self.day += 1
        self.export = content
        body = "".join(json.dumps({"email": email, "nosto_segments": names}) + "\n" for email, names in content.items())
        self.pipeline.export(body.encode(), self.day)
        self.clean = False

    @rule(content=CONTENT)
    def a_new_export(self, content: dict[str, list[str]]) -> None:
        self.put(content)

    @rule(chosen=st.sets(st.sampled_from(NAMES), min_size=1))
    def another_selection(self, chosen: set[str]) -> None:
        self.pipeline.tap["segments"] = sorted(chosen)
        self.clean = False

    @rule()
    def a_run(self) -> None:
        self.sandbox.faults.clear()
        account = self.sandbox.account
        account.outcomes, account.partial, account.forget_rows = [], 1.0, 0
        account.refuse = lambda _email: None
        account.settle()
        if self.lost_ledger and self.lost_snapshots:
            # nobody is left who could know that they were ours
            self.unseen |= set(folded(account.snapshot())) - set(self.export)
        outcome = self.pipeline.run()
        assert outcome.code == 0, outcome.log
        self.lost_ledger = self.lost_snapshots = False
        self.clean = True

    @rule(kind=FAULTS, nth=st.integers(1, 12))
    def a_run_with_a_fault(self, kind: str, nth: int) -> None:
        account = self.sandbox.account
        match kind:
            case "500 for good":
                self.sandbox.faults.add(Fault("answer", service=None, nth=nth, times=999, response=answer(500)))
            case "Failed" | "RejectedByWatchdog":
                account.outcomes = [kind] * 2
            case "half applied":
                account.outcomes, account.partial = ["Failed", "Failed"], 0.5
            case "fewer rows":
                account.forget_rows = 1
            case "refused":
                account.refuse = lambda email: "tooBusy" if email < "c" else None
            case _:
                self.sandbox.faults.add(Fault(kind, service=None, nth=nth))  # type: ignore[arg-type]  # one of the kinds
        both = self.lost_ledger and self.lost_snapshots
        if both:
            self.unseen |= set(folded(account.snapshot())) - set(self.export)
        self.pipeline.run()
        self.lost_snapshots = self.lost_ledger = False
        self.clean = False

    @rule(email=st.sampled_from(EMAILS), value=st.sampled_from(["by hand", None]))
    def an_edit_by_hand(self, email: str, value: str | None) -> None:
        account = self.sandbox.account
        account.settle()
        if email in account.by_email:
            account.edit(email, FIELD, value)
            self.unseen.add(email)

    @rule()
    def the_ledger_is_lost(self) -> None:
        for path in self.folder.glob("ledger.db*"):
            path.unlink()
        self.lost_ledger = True
        self.clean = False

    @rule()
    def the_snapshots_are_lost(self) -> None:
        shutil.rmtree(self.folder / "snapshots", ignore_errors=True)
        self.lost_snapshots = True
        self.clean = False

    @precondition(lambda self: self.clean)
    @rule()
    def a_full_run_and_reconcile_mend_everything(self) -> None:
        self.pipeline.state = None
        self.a_run()
        outcome = run_target(self.pipeline.target, "", self.time, reconcile=True)
        assert outcome.code == 0, outcome.log
        self.unseen.clear()
        self.a_run()

    @precondition(lambda self: self.clean and self.pipeline.report["sent"])
    @rule()
    def a_run_is_put_back_and_made_again(self) -> None:
        run = self.pipeline.report["run"]
        outcome = run_target(self.pipeline.target, "", self.time, restore=True, run=run)
        assert outcome.code == 0, outcome.log
        self.pipeline.state = None
        self.a_run()

    @invariant()
    def the_account_is_what_the_export_says(self) -> None:
        if not getattr(self, "clean", False):
            return
        account = folded(self.sandbox.account.snapshot())
        chosen = set(self.pipeline.tap.get("segments", NAMES))
        for email in set(self.export) | set(account):
            assert email in account, "nobody is missing"
            wanted = ";".join(sorted(set(self.export.get(email, [])) & chosen))
            if email not in self.unseen:
                assert account[email].data_fields.get(FIELD, "") == wanted, email
        assert_allowed(self.sandbox)

    def teardown(self) -> None:
        """Stop the sandbox."""
        if hasattr(self, "sandbox"):
            self.sandbox.close()
            shutil.rmtree(self.folder)


def test_any_sequence_of_days() -> None:
    run_state_machine_as_test(
        Days,
        settings=settings(
            max_examples=14, stateful_step_count=14, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
        ),
    )
