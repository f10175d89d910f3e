"""Whatever is lost, restored, edited or switched, in whatever order: a run that calls itself healthy has left the account right.

Days differ from each other by little, as days do: a contact that nobody names any more is where two memories come apart.
`support.days` holds the model and the law; here are only the things that can happen.
"""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from support.days import (
    FAULTS,
    MEMBERS,
    MEMORIES,
    NAMES,
    ORPHAN,
    OTHER_BOOK,
    OTHER_FIELD,
    SECOND_DIES,
    SHOPPERS,
    STRANGER,
    Days,
    Ending,
)
from support.oracle import BOOK, FIELD
from support.upgrading import make_old

EDITS = st.lists(st.tuples(st.sampled_from(SHOPPERS), st.sampled_from(("there", *NAMES))), max_size=2)
SOME_SHOPPERS = st.sets(st.sampled_from(SHOPPERS), min_size=1, max_size=3)
SOME_MEMORIES = st.sets(st.sampled_from(MEMORIES), min_size=1)
# most disagreements show only if a run follows before anything mends them, and on a day whose content was there before
THEN = st.sampled_from(("nothing", "a run", "the day before again"))
SOMEBODY = st.sampled_from((*SHOPPERS, STRANGER, ORPHAN))


class Machine(RuleBasedStateMachine):
    """A shop, an account, and people who edit, lose, restore and switch things."""

    days: Days

    @initialize()
    def the_first_day_is_delivered(self) -> None:
        self.days = Days()
        self.days.begin()

    @rule(edits=EDITS, obedient=st.booleans())
    def a_day_passes_and_is_run(self, edits: list[tuple[str, str]], obedient: bool) -> None:  # noqa: FBT001 - drawn
        self.days.put(self.days.edited(edits))
        self._run(obedient=obedient)

    @rule()
    def the_day_before_comes_back_and_is_run(self) -> None:
        self._then("the day before again")

    @rule(edits=EDITS)
    def a_day_passes_without_a_run(self, edits: list[tuple[str, str]]) -> None:
        self.days.put(self.days.edited(edits))

    @rule()
    def the_same_day_is_run_again(self) -> None:
        self._run()

    @rule()
    def a_full_refresh_puts_everything_right(self) -> None:
        self._refresh()

    @rule(edits=EDITS, kind=st.sampled_from(FAULTS), nth=st.integers(1, 12))
    def a_day_passes_and_its_run_meets_a_fault(self, edits: list[tuple[str, str]], kind: str, nth: int) -> None:
        self.days.put(self.days.edited(edits))
        self.days.run(fault=kind, nth=nth)

    @rule(edits=EDITS, who=SOME_SHOPPERS, readable=st.booleans(), then=THEN)
    def lines_of_the_export_are_malformed(self, edits: list[tuple[str, str]], who: set[str], readable: bool, then: str) -> None:  # noqa: FBT001 - drawn
        self.days.put(self.days.edited(edits), who, readable=readable)
        self._run()
        self._then(then)

    @rule(members=st.dictionaries(st.sampled_from(MEMBERS), st.sampled_from(NAMES), min_size=1), dies=st.integers(0, 2))
    def a_second_stream_feeds_the_data_field(self, members: dict[str, str], dies: int) -> None:
        self.days.join({email: [name] for email, name in members.items()})
        if dies:
            self.days.run(fault=SECOND_DIES, nth=dies, whole=dies == 2)
        self._run()

    @rule(edits=EDITS, then=THEN)
    def the_taps_stream_maps_change_for_a_day(self, edits: list[tuple[str, str]], then: str) -> None:
        self.days.map_names(mapped=True)
        self._run()
        self.days.put(self.days.edited(edits))
        self._then(then)
        self.days.map_names(mapped=False)
        self._run()

    @rule(which=st.sets(st.sampled_from(MEMORIES)), meant=st.booleans())
    def most_contacts_leave(self, which: set[str], meant: bool) -> None:  # noqa: FBT001 - drawn
        """Most contacts leave, and the operator overrides the brake; or it was an accident, and the export is restored."""
        days = self.days
        if not days.has_crowd:
            days.put(days.with_crowd())
            self._run()
        content = days.content
        days.put(days.again(days.without_crowd()))
        days.lose(which)
        self._run(obedient=meant)
        if not meant:
            days.put(days.again(content))
            self._run()

    @precondition(lambda self: self.days.late)
    @rule(then=THEN)
    def what_was_lost_arrives_late(self, then: str) -> None:
        self.days.land()
        self._then(then)

    @rule(
        edits=EDITS, kind=st.sampled_from(("stuck", "lost, then retried")), uploads=st.sampled_from(("all", "none", "another book"))
    )
    def settings_change_while_an_import_is_open(self, edits: list[tuple[str, str]], kind: str, uploads: str) -> None:
        days = self.days
        days.put(days.edited(edits))
        days.run(fault=kind, nth=3)
        if uploads == "another book":
            days.deliver_to(upload_emails="all", address_book=OTHER_BOOK if days.pipeline.target["address_book"] == BOOK else BOOK)
        else:
            days.deliver_to(upload_emails=uploads)
        days.put(days.edited(edits))
        self._run()

    @rule(which=SOME_MEMORIES, then=THEN)
    def memories_are_lost(self, which: set[str], then: str) -> None:
        self.days.lose(which)
        self._then(then)

    @rule(which=SOME_MEMORIES, ago=st.integers(0, 3), then=THEN)
    def memories_are_restored_from_a_backup(self, which: set[str], ago: int, then: str) -> None:
        self.days.bring_back(which, ago)
        self._then(then)

    @rule(uploads=st.sampled_from(("all", "with_segments", "none")))
    def other_contacts_are_uploaded(self, uploads: str) -> None:
        self.days.deliver_to(upload_emails=uploads)

    @rule(which=st.sampled_from(("data field", "address book", "ledger")))
    def the_settings_point_elsewhere(self, which: str) -> None:
        days = self.days
        match which:
            case "data field":
                days.deliver_to(data_field=OTHER_FIELD if days.place.field == FIELD else FIELD)
            case "address book":
                days.deliver_to(address_book=OTHER_BOOK if days.pipeline.target["address_book"] == BOOK else BOOK)
            case _:
                days.use_the_other_ledger()

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1))
    def other_segments_are_chosen(self, names: set[str]) -> None:
        if self.days.readable_names & names:
            self.days.choose(names)

    @rule(email=SOMEBODY, what=st.sampled_from(("other labels", "no labels", "deleted")))
    def somebody_edits_a_contact_in_dotdigital(self, email: str, what: str) -> None:
        if what == "deleted":
            self.days.delete(email)
        else:
            self.days.edit(email, "by hand" if what == "other labels" else None)

    @rule()
    def the_account_is_read_back(self) -> None:
        self.days.reconcile()

    @rule(email=st.sampled_from(SHOPPERS))
    def an_address_is_forgotten(self, email: str) -> None:
        self.days.forget(email)

    @precondition(lambda self: self.days.can_put_back)
    @rule()
    def the_last_run_is_put_back(self) -> None:
        self.days.put_back()

    @rule(most=st.sampled_from([2, 0]))
    def few_contacts_a_run_are_allowed(self, most: int) -> None:
        self.days.pipeline.target["max_contacts_per_run"] = most

    @precondition(lambda self: self.days.held.get(self.days.scope))
    @rule()
    def held_contacts_are_released(self) -> None:
        self.days.release()

    @rule(then=THEN)
    def the_target_is_upgraded(self, then: str) -> None:
        make_old(self.days.pipeline.target["ledger_url"])
        self._then(then)

    def _then(self, what: str) -> None:
        days = self.days
        if what == "the day before again" and len(days.days) > 1:
            days.put(days.again(days.days[-2]))
        if what != "nothing":
            self._run()

    def _run(self, *, obedient: bool = True) -> None:
        """Run; an operator who is asked for a full refresh or an override does it, or puts it off."""
        ending = self.days.run()
        if ending is Ending.REJECTED and obedient:
            self._refresh()
        elif ending is Ending.BRAKED and obedient:
            assert self.days.run(override=True) is Ending.HEALTHY

    def _refresh(self) -> None:
        if self.days.run(whole=True) is Ending.BRAKED:
            assert self.days.run(whole=True, override=True) is Ending.HEALTHY

    def teardown(self) -> None:
        """Run once more, so that whatever happened last is looked at too."""
        if not hasattr(self, "days"):
            return
        try:
            if sys.exc_info()[0] is None:
                self._run()
        finally:
            self.days.close()


def test_any_sequence_of_days() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=3, stateful_step_count=16, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.slow
def test_many_sequences_of_days() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=int(os.environ.get("SEQUENCES", "100")),
            stateful_step_count=20,
            deadline=None,
            database=None,
            # the same sequences each time, so that a failure is one of the change that is tested; `make explore` tries others
            derandomize="SEQUENCES" not in os.environ,
            print_blob=True,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
