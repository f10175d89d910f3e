"""Rules of a service, and the switches that replace them.

A method marked with `rule` behaves as the published documents say. A function marked with `instead_of` replaces it as long as the
switch of its name is on, so that tests can ask what happens if an assumption about the service is wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSet
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

# called with the object, the documented rule, and the rule's arguments
Replacement = Callable[..., Any]
_REPLACEMENTS: dict[str, dict[str, Replacement]] = {}

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Replacement)


class Deviations(MutableSet[str]):
    """The switches that are on. The service follows the published documents as long as there are none.

    Args:
        known: switch -> what the service does if the switch is on.
    """

    def __init__(self, known: Mapping[str, str]) -> None:
        """Start with all switches off."""
        self._known = known
        self._on: list[str] = []

    def add(self, value: str) -> None:
        """Turn a switch on.

        Raises:
            ValueError: there is no such switch.
        """
        if value not in self._known:
            msg = f"There is no deviation {value!r}. Choose from: {', '.join(sorted(self._known))}"
            raise ValueError(msg)
        if value not in self._on:
            self._on.append(value)

    def update(self, values: Iterable[str]) -> None:
        """Turn several switches on."""
        for value in values:
            self.add(value)

    def discard(self, value: str) -> None:
        """Turn a switch off."""
        if value in self._on:
            self._on.remove(value)

    def replacing(self, rule: str) -> list[Replacement]:
        """Return the functions that replace a rule, in the order in which their switches were turned on."""
        found = _REPLACEMENTS.get(rule, {})
        return [found[switch] for switch in self._on if switch in found]

    def __contains__(self, value: object) -> bool:
        """Return whether a switch is on."""
        return value in self._on

    def __iter__(self) -> Iterator[str]:
        """Iterate over the switches that are on."""
        return iter(tuple(self._on))

    def __len__(self) -> int:
        """Return the number of switches that are on."""
        return len(self._on)


class _Deviates(Protocol):
    @property
    def deviations(self) -> Deviations: ...


S = TypeVar("S", bound=_Deviates)


def rule(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Mark a method as a rule of the service that switches may replace."""
    name = method.__name__

    @functools.wraps(method)
    def follow(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not self.deviations:
            return method(self, *args, **kwargs)
        current = functools.partial(method, self)
        for replacement in self.deviations.replacing(name):
            current = functools.partial(replacement, self, current)
        return current(*args, **kwargs)

    return follow


def instead_of(name: str, switch: str | None = None) -> Callable[[F], F]:
    """Mark a function that replaces the rule `name` while a switch is on.

    Args:
        name: name of the method that is marked as a rule.
        switch: name of the switch; by default, the name of the function.
    """

    def register(replacement: F) -> F:
        _REPLACEMENTS.setdefault(name, {})[switch or replacement.__name__] = replacement
        return replacement

    return register


def replaced() -> set[str]:
    """Return the names of all switches that replace a rule."""
    return {switch for switches in _REPLACEMENTS.values() for switch in switches}
