"""Measure whole processes: time by the clock, processor time, and the peak memory of each process that a command starts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SAMPLE_SECONDS = 0.01
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Part:
    """What one program used: peak memory of its largest process in MB, and processor seconds of all of them."""

    megabytes: float = 0.0
    busy: float = 0.0


@dataclass(frozen=True, slots=True)
class Measure:
    """One command.

    Args:
        seconds: by the clock.
        megabytes: peak memory of its own process.
        busy: processor seconds (user and system), those of the processes that it started included.
        parts: program -> what its processes used, sampled.
    """

    seconds: float
    megabytes: float
    busy: float = 0.0
    parts: Mapping[str, Part] = field(default_factory=dict)


def measure(
    command: Sequence[object],
    source: Path | None = None,
    output: Path | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Measure:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed.
    """
    started = time.monotonic()
    with _open(source, "rb") as stdin, _open(output, "wb") as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=environment
        )
        with Watch(process.pid) as watch:
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            stderr.seek(0)
            msg = stderr.read().decode()[-2000:]
            raise RuntimeError(msg)
    return Measure(seconds, watch.megabytes(process.pid), usage.ru_utime + usage.ru_stime, watch.parts())


class Watch:
    """Sample a process and all that it starts, until the end of a `with` block.

    The kernel's peak of a living process (VmHWM) starts anew when a program starts. `ru_maxrss` does not: it begins with the size of the
    process that started the program, which here holds the sandbox with millions of contacts.

    Args:
        pid: the process.
    """

    def __init__(self, pid: int) -> None:
        """Store the process."""
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_the_end)
        # (process, program), since a process that was forked is its parent's copy at first -> the last sample
        self._samples: dict[tuple[int, str], Part] = {}

    def __enter__(self) -> Self:
        """Start."""
        self._sample(self._pid)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._ended.set()
        self._thread.join()

    def megabytes(self, pid: int) -> float:
        """Return the peak memory of a process; 0 if it ended before the first sample."""
        return max((part.megabytes for (number, _), part in self._samples.items() if number == pid), default=0.0)

    def parts(self) -> dict[str, Part]:
        """Return what the processes of each program used."""
        found: dict[str, Part] = {}
        for (_, name), part in self._samples.items():
            before = found.get(name, Part())
            found[name] = Part(max(before.megabytes, part.megabytes), before.busy + part.busy)
        return found

    def _sample_until_the_end(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._sample(self._pid)

    def _sample(self, pid: int) -> None:
        # a process may end at any moment
        with contextlib.suppress(OSError, IndexError):
            home = Path(f"/proc/{pid}")
            name = program((home / "cmdline").read_bytes())
            peak = [line.split()[1] for line in (home / "status").read_text().splitlines() if line.startswith("VmHWM:")]
            fields = stat_fields(pid)
            user, system = fields[11], fields[12]
            if peak and name:
                self._samples[pid, name] = Part(int(peak[0]) / 1024, (int(user) + int(system)) / TICKS_PER_SECOND)
            for children in home.glob("task/*/children"):
                for child in children.read_text().split():
                    self._sample(int(child))


def program(command_line: bytes) -> str:
    """Return the name of the program in /proc/PID/cmdline: of an interpreter, its script; a tap's discovery counts as one of its own."""
    words = [Path(word).name for word in command_line.decode(errors="replace").split("\0") if word]
    named = [word for word in words if not word.startswith("python")] or words
    return f"{named[0]} --discover" if "--discover" in words else (named[0] if named else "")


def stat_fields(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat behind the name: state, parent, ...; none if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _open(path: Path | None, mode: str) -> IO[Any]:
    return (path or Path(os.devnull)).open(mode)
