"""Call limits of an account, with the response headers that announce them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Limits:
    """Call limits of the account.

    Attributes:
        per_minute: limit of each tier by name; absent tiers are unlimited.
        window: length of the tiered window in seconds.
        flat: calls per hour under the old flat limit; None selects the tiered limits.
        reset_as: unit of X-RateLimit-Reset: "epoch" or "seconds".
    """

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float] = time.time) -> None:
        """Set the limits of the default package."""
        self.clock = clock
        self.wall = wall
        self.per_minute: dict[str, int] = {"low": 1000, "medium": 1000, "high": 1000}
        self.window = 60.0
        self.flat: int | None = None
        self.reset_as = "epoch"
        self.refused = 0
        self._spent: dict[str, int] = {}
        self._opened: dict[str, float] = {}

    def spend(self, tier: str, calls: int = 1) -> tuple[dict[str, str], bool]:
        """Count calls, and return the response headers and whether the calls are within the limit."""
        if self.flat is not None:
            self._spent["flat"] = self._spent.get("flat", 0) + calls
            return {}, self._spent["flat"] <= self.flat
        if tier not in self.per_minute:
            return {}, True
        now = self.clock()
        if now >= self._opened.get(tier, -1e9) + self.window:
            self._opened[tier], self._spent[tier] = now, 0
        limit = self.per_minute[tier]
        allowed = self._spent[tier] + calls <= limit
        if allowed:
            self._spent[tier] += calls
        left = max(0.0, self._opened[tier] + self.window - now)
        reset = self.wall() + left if self.reset_as == "epoch" else left
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(0, limit - self._spent[tier])),
            "X-RateLimit-Reset": str(int(reset) + 1),
            "X-RateLimit-Scope": f"{tier}CallRate",
        }
        return headers, allowed
