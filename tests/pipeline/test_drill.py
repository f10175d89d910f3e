"""A quick part of the drill; `make drill` runs the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.drill import ANYWHERE, AT_IMPORTS, OUTCOMES, Drill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    made = Drill(tmp_path, contacts=120)
    yield made
    made.close()


def assert_holds(drill: Drill) -> None:
    assert drill.problems == []
    assert {(line.lost, line.duplicates, line.consent, line.early) for line in drill.table.values()} == {(0, 0, 0, 0)}


# each kind of fault at one call, or at every thirteenth call
@pytest.mark.parametrize("every", [80, pytest.param(13, marks=pytest.mark.slow)])
def test_a_fault_of_every_kind(drill: Drill, every: int) -> None:
    drill.run(every=every)
    drill.nosto()
    assert_holds(drill)
    kinds = {*ANYWHERE, *AT_IMPORTS, *(f"import ends as {outcome}" for outcome in OUTCOMES)}
    assert kinds <= set(drill.table)
    assert all(drill.table[kind].tried for kind in kinds)
    assert sum(line.failed for line in drill.table.values()) > 10


def test_killed_at_some_calls(drill: Drill) -> None:
    drill.kills(every=13)
    assert_holds(drill)
    assert all(line.failed == line.tried for line in drill.table.values())
