"""The injectable clock, and time zones."""

from __future__ import annotations

import datetime
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

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


def find_zone(name: str) -> datetime.tzinfo | None:
    """Return a time zone by its IANA name; None if this system does not know it."""
    if name == "UTC":  # even without a database of time zones
        return datetime.UTC
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        return None


def local_time(moment: datetime.datetime | str, zone: datetime.tzinfo) -> str:
    """Return a moment as people read it, with the name of the time zone.

    Args:
        moment: a moment, or its ISO 8601 form.
        zone: the time zone to show it in.
    """
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment)
    local = moment.astimezone(zone)
    return f"{local:%Y-%m-%d %H:%M} {local.tzname()}"
