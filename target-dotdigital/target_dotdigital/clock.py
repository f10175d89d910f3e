"""The injectable clock."""

from __future__ import annotations

import datetime
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Clock:
    """Injectable clock.

    Args:
        monotonic: returns seconds of a monotonic clock.
        wall: returns seconds since 1970.
        sleep: waits for a number of seconds.
        jitter: returns a random number between 0 and 1.
        waited: seconds slept so far.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    waited: float = field(default=0.0)

    def wait(self, seconds: float) -> None:
        """Sleep for a number of seconds, and add them to `waited`."""
        if seconds > 0:
            self.waited += seconds
            self.sleep(seconds)

    def today(self) -> datetime.date:
        """Return the date in UTC."""
        return self.now().date()

    def now(self) -> datetime.datetime:
        """Return the time in UTC."""
        return datetime.datetime.fromtimestamp(self.wall(), datetime.UTC)
