"""Runs the two plugins as Meltano does: the tap's output into the target, the target's last STATE kept for the next run."""

from __future__ import annotations

import contextlib
import datetime
import io
import itertools
import json
import logging
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nosto_dotdigital_sandbox import ExportFile
from singer_sdk.plugin_base import _ConfigInput
from tap_nosto_segments.tap import TapNostoSegments
from target_dotdigital.cli import CommandLine
from target_dotdigital.clock import Clock
from target_dotdigital.sync.activation import stream_group

from support.report_schema import deviations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nosto_dotdigital_sandbox import Sandbox

BIN = Path(sys.executable).parent
# seconds between two runs: longer than the hour by which a run looks back for contacts that are new in dotdigital
HOURS = 2.5 * 3600.0
START = datetime.datetime(2026, 11, 1, 4, 0, tzinfo=datetime.UTC)


class FakeTime:
    """Time that passes only when somebody waits for it."""

    def __init__(self) -> None:
        """Start at a fixed moment."""
        self.seconds = 1_000.0
        # seconds that passed while nothing ran
        self.skipped = 0.0
        # seconds by which this machine's clock is ahead of dotdigital's
        self.ahead = 0.0
        self.naps: list[float] = []
        # called after each wait
        self.waited: Callable[[], None] = lambda: None

    def now(self) -> float:
        """Seconds that only grow."""
        return self.seconds

    def wall(self) -> float:
        """Seconds since 1970."""
        return 1_790_000_000.0 + self.seconds + self.skipped

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.naps.append(seconds)
        self.seconds += seconds
        self.waited()

    def clock(self) -> Clock:
        """Give the clock that the target waits by."""
        return Clock(monotonic=self.now, wall=lambda: self.wall() + self.ahead, sleep=self.sleep, jitter=lambda: 0.0)


@dataclass(slots=True)
class Outcome:
    """How a plugin ended: exit code, standard output, log, and the exception behind the exit code."""

    code: int
    output: str
    log: str
    error: BaseException | None = None

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The output, line by line."""
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def state(self) -> dict[str, Any] | None:
        """The last STATE that the target wrote; None if it wrote none."""
        states = self.output.splitlines()
        return json.loads(states[-1]) if states else None

    @property
    def bookmark(self) -> dict[str, Any]:
        """The last STATE in a tap's output."""
        states: list[dict[str, Any]] = [line["value"] for line in self.lines if line["type"] == "STATE"]
        return states[-1]

    def records(self, stream: str = "contact_segments") -> list[dict[str, Any]]:
        """The records of a stream in a tap's output."""
        return [line["record"] for line in self.lines if line["type"] == "RECORD" and line["stream"] == stream]

    @property
    def errors(self) -> list[str]:
        """The error lines of the log."""
        return [line.removeprefix("ERROR ") for line in self.log.splitlines() if line.startswith("ERROR ")]


@contextlib.contextmanager
def _captured() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    output, log = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(output):
            yield output, log
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def run_tap(
    config: dict[str, Any],
    state: dict[str, Any] | None = None,
    catalog: dict[str, Any] | None = None,
    moment: datetime.datetime | None = None,
) -> Outcome:
    """Run the tap in this process, by the entry that its command uses."""

    class Timed(TapNostoSegments):
        """The tap, without waiting."""

        @staticmethod
        def sleep(seconds: float) -> None:
            """Let no time pass."""

        now = staticmethod(TapNostoSegments.now if moment is None else lambda: moment)

    code, error = 0, None
    with _captured() as (output, log):
        try:
            Timed.invoke(
                config=_ConfigInput(dict(config)),
                state=None if state is None else io.StringIO(json.dumps(state)),
                catalog=None if catalog is None else io.StringIO(json.dumps(catalog)),
            )
        except SystemExit as end:
            code, error = int(end.code or 0), end.__context__
    return Outcome(code, output.getvalue(), log.getvalue(), error)


def run_target(config: dict[str, Any], text: str | IO[str], time: FakeTime | None = None, **command: Any) -> Outcome:
    """Run the target in this process, by the entry that its command uses.

    Args:
        config: the settings.
        text: the input of a sync, as a text or a file.
        time: time that passes without waiting; None for real time.
        command: a command and its options in place of a sync, such as `restore=True, run=5` or `explain=EMAIL, live=True`.
    """

    class Timed(CommandLine):
        """The target, with a clock that does not wait."""

        clock = Clock if time is None else time.clock  # type: ignore[assignment]  # a bound method makes a clock as the class does

    code, error = 0, None
    with _captured() as (output, log):
        try:
            if command:
                with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                    file.write(json.dumps(config))
                    file.flush()
                    Timed.get_singer_command().main(["--config", file.name, *_arguments(command)])
            Timed.invoke(config=_ConfigInput(dict(config)), file_input=io.StringIO(text) if isinstance(text, str) else text)
        except SystemExit as end:
            code, error = int(end.code or 0), end.__context__
    return Outcome(code, output.getvalue(), log.getvalue(), error)


def _arguments(command: dict[str, Any]) -> list[str]:
    """Return the arguments of a command on the command line."""
    name, *options = (option for option in command if command[option] not in {None, False})
    values = {option: [] if command[option] is True else [str(command[option])] for option in command}
    flags = [[f"--{option.replace('_', '-')}", *values[option]] for option in options]
    return [name, *itertools.chain.from_iterable(flags), *(["--", *values[name]] if values[name] else [])]


def singer(records: list[dict[str, Any]], stream: str = "people", state: object = None, **types: Any) -> str:
    """Write Singer lines by hand, as any other tap might."""
    names = {name for record in records for name in record} | {"email", "segments"} if not types else set(types)
    schema = {"type": "object", "properties": {name: types.get(name, {}) for name in sorted(names)}}
    lines: list[dict[str, Any]] = [{"type": "SCHEMA", "stream": stream, "schema": schema, "key_properties": []}]
    lines += [{"type": "RECORD", "stream": stream, "record": record} for record in records]
    lines.append({"type": "STATE", "value": state or {"bookmarks": {stream: {}}}})
    return "".join(json.dumps(line) + "\n" for line in lines)


def covering(code: str, streams: Iterable[str]) -> str:
    """Give an activation code for other streams."""
    return f"{code[:9]}-{stream_group(streams)}"


def contact_streams(text: str, config: dict[str, Any]) -> set[str]:
    """Give the streams of an input that have contacts."""
    needed = {config.get("email_property") or "email", config.get("segments_property") or "segments"}
    found = set()
    for line in text.splitlines():
        if '"SCHEMA"' in line:
            with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
                message = json.loads(line)
                if message["type"] == "SCHEMA" and needed <= message["schema"]["properties"].keys():
                    found.add(message["stream"])
    return found


@dataclass(slots=True)
class Pipeline:
    """The pipeline against a sandbox, with Meltano's state.

    Args:
        sandbox: the stand-in.
        folder: where snapshots, ledger and reports go.
        approved: activation codes of `activate`, for which `load` takes the code that covers the streams of the input instead.
    """

    sandbox: Sandbox
    folder: Path
    time: FakeTime = field(default_factory=FakeTime)
    state: dict[str, Any] | None = None
    tap: dict[str, Any] = field(default_factory=dict)
    target: dict[str, Any] = field(default_factory=dict)
    catalog: dict[str, Any] | None = None
    # what another program between tap and target makes of the tap's output
    between: Callable[[str], str] = lambda text: text
    approved: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Fill in what every run needs."""
        self.tap = {
            "export_url": self.sandbox.export_url,
            "export_token": self.sandbox.nosto.token,
            "snapshot_uri": str(self.folder / "snapshots"),
            "max_export_age_hours": 0,
            **self.tap,
        }
        self.target = {
            "api_url": self.sandbox.api_url,
            "api_user": self.sandbox.user,
            "api_password": self.sandbox.password,
            "ledger_url": f"sqlite:///{self.folder / 'ledger.db'}",
            "report_dir": str(self.folder / "reports"),
            "poll_interval_ms": 1000,
            **self.target,
        }

    def export(self, body: bytes, day: int = 0) -> bytes:
        """Put a day's export at Nosto."""
        self.sandbox.nosto.export = ExportFile(body, START + datetime.timedelta(days=day))
        return body

    def extract(self) -> Outcome:
        """Run the tap from the bookmark."""
        return run_tap(self.tap, self.state, self.catalog)

    def load(self, text: str) -> Outcome:
        """Run the target, some hours after whatever was before, and keep the STATE that it writes."""
        self.time.skipped += HOURS
        outcome = run_target(self.target_for(text), text, self.time)
        if outcome.state is not None:
            self.state = outcome.state
        return outcome

    def target_for(self, text: str) -> dict[str, Any]:
        """Give the target's settings with the activation code that covers the streams of an input."""
        code = self.target.get("activation_code")
        return self.target | (
            {"activation_code": covering(code, contact_streams(text, self.target))} if code in self.approved else {}
        )

    def run(self) -> Outcome:
        """Run both; the target's end counts, unless the tap failed."""
        extracted = self.extract()
        loaded = self.load(self.between(extracted.output))
        if extracted.code:
            return Outcome(extracted.code, loaded.output, extracted.log + loaded.log, extracted.error)
        return loaded

    def activate(self, stream: str = "people") -> str:
        """Read the activation code off the review, as an operator does, and set it."""
        text = singer([], stream)
        self.target.pop("activation_code", None)
        state = self.state
        outcome = self.load(text)
        self.state = state
        assert outcome.code == 1, outcome.log
        code = str(self.report["activation_code"])
        assert self.report["outcome"] == "not activated", outcome.log
        self.target["activation_code"] = code
        self.approved.add(code)
        return code

    @property
    def report(self) -> dict[str, Any]:
        """The last run's report."""
        facts: dict[str, Any] = json.loads((self.folder / "reports" / "report.json").read_text())
        assert deviations(facts) == []
        return facts
