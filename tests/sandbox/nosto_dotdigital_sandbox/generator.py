"""Generates a shop's exports, deterministically from a seed. Any size; any day can be generated on its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEGMENTS = (
    "Loyal Customers",
    "First-Time Customers",
    "Repeat Customers",
    "Prospects",
    "Returning Visitors",
    "Affinity: Nike",
    "Affinity: Café Crème",
    "Outdoor Enthusiasts Organic",
    "Men's Shoes, Sale",
    "VIP",
    "VIP Lapsed",
    "geo-area Österreich",
)
_MASK = (1 << 64) - 1


def _mix(*parts: int) -> int:
    """Hash small integers to 64 bits (splitmix64's finaliser)."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state ^ part) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 29) * 0x94D049BB133111EB & _MASK
        state ^= state >> 32
    return state


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop whose contacts change segments from day to day.

    Args:
        contacts: number of contacts on the first day.
        seed: seed of all random choices.
        segments: segment names; the IDs in the catalogue follow their order.
        change_per_mille: contacts per thousand that change segments each day.
        vanish_per_mille: contacts per thousand that are removed each day, permanently.
        new_per_mille: new contacts each day, per thousand contacts of the first day.
        doubled_per_mille: contacts per thousand with a duplicate line, whose address is spelled differently and has other segments.
        invalid: number of invalid addresses in each export.
        most: maximum number of segments per contact.
        renames: (day, old name, new name); the new name is valid from that day on.
    """

    contacts: int
    seed: int = 1
    segments: tuple[str, ...] = SEGMENTS
    change_per_mille: int = 10
    vanish_per_mille: int = 2
    new_per_mille: int = 3
    doubled_per_mille: int = 2
    invalid: int = 0
    most: int = 5
    renames: tuple[tuple[int, str, str], ...] = ()

    def catalogue(self, day: int) -> list[tuple[str, str]]:
        """Return the segments of a day: ID (24 hexadecimal digits) and name."""
        return [(f"5a49{index:020x}", self._named(index, day)) for index in range(len(self.segments))]

    def rows(self, day: int) -> Iterator[tuple[str, list[str]]]:
        """Yield each line of a day's export: the address as Nosto spells it, and the unordered segment names."""
        names = [self._named(index, day) for index in range(len(self.segments))]
        for number in range(self.contacts + day * self.contacts * self.new_per_mille // 1000):
            born = self._born(number)
            epoch = self._epoch(number, born, day)
            if epoch is None:
                continue
            address = self.address(number)
            chosen = self._chosen(number, epoch)
            yield address, [names[index] for index in chosen]
            if _mix(self.seed, 3, number) % 1000 < self.doubled_per_mille:
                extra = (chosen[-1] + 1 if chosen else 0) % len(names)
                yield f" {address.upper()}", [names[extra]]
        for number in range(self.invalid):
            yield f"not-an-address-{number}", [names[0]]

    def address(self, number: int) -> str:
        """Return the address of a contact: mostly plain, some with `+`, an apostrophe or capitals."""
        kind = _mix(self.seed, 1, number) % 100
        name = f"shopper{number:07d}"
        if kind == 0:
            return f"{name}+news@shop{number % 7}.example.com"
        if kind == 1:
            return f"o'{name}@mail.example.org"
        if kind == 2:
            return f"{name.capitalize()}@Example.NET"
        return f"{name}@shop{number % 97}.example.com"

    def export(self, day: int, identifier: str = "nosto_segments") -> bytes:
        """Return a day's export."""
        return "".join(_line(address, names, identifier) for address, names in self.rows(day)).encode()

    def write(self, path: Path, day: int, identifier: str = "nosto_segments") -> None:
        """Write a day's export to a file, line by line."""
        with path.open("w", encoding="utf-8") as file:
            file.writelines(_line(address, names, identifier) for address, names in self.rows(day))

    def _named(self, index: int, day: int) -> str:
        name = self.segments[index]
        for since, old, new in self.renames:
            if day >= since and name == old:
                name = new
        return name

    def _born(self, number: int) -> int:
        per_day = self.contacts * self.new_per_mille // 1000
        return 0 if number < self.contacts or not per_day else (number - self.contacts) // per_day + 1

    def _epoch(self, number: int, born: int, day: int) -> int | None:
        """Return the last day on which the contact's segments changed; None if the contact is removed."""
        epoch = born
        for today in range(born + 1, day + 1):
            drawn = _mix(self.seed, 2, number, today) % 1000
            if drawn < self.vanish_per_mille:
                return None
            if drawn < self.vanish_per_mille + self.change_per_mille:
                epoch = today
        return epoch

    def _chosen(self, number: int, epoch: int) -> list[int]:
        drawn = _mix(self.seed, 4, number, epoch)
        count = drawn % (self.most + 1)
        chosen: list[int] = []
        for _ in range(count):
            drawn = _mix(drawn, 5)
            if (index := drawn % len(self.segments)) not in chosen:
                chosen.append(index)
        return chosen


def _line(address: str, names: list[str], identifier: str) -> str:
    return json.dumps({"email": address, identifier: names}, ensure_ascii=False) + "\n"
