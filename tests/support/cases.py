"""Tables of cases, of which `make test` runs one of each kind; `make test-all` runs all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def slow_except(kept: Collection[object], cases: Iterable[object]) -> list[object]:
    """Mark cases as slow tests.

    Args:
        kept: the cases that are no slow tests, one of each kind.
        cases: all cases; a tuple holds the values of several parameters.

    Returns:
        The cases, in their order, for `pytest.mark.parametrize`.
    """
    cases = list(cases)
    missing = [case for case in kept if case not in cases]
    assert not missing, f"no such cases: {missing}"
    return [case if case in kept else _slow(case) for case in cases]


def _slow(case: object) -> object:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
