"""The drill: the pipeline with a fault at every call that it makes, in turn, and what is left of the fault afterwards.

`python -m support.drill` prints the table; the tests run a part of it.
"""

from __future__ import annotations

import copy
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time as real_time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nosto_dotdigital_sandbox import Fault, Sandbox, Shop
from nosto_dotdigital_sandbox.faults import answer

from support.oracle import assert_account, expected
from support.running import BIN, FakeTime, Outcome, Pipeline, run_tap, run_target
from support.wire import assert_allowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nosto_dotdigital_sandbox.web import Request, Response

CONTACTS = 1_000
WINDOW = 4
CAPPED = json.dumps({"message": "Temporarily capped. ERROR_APIUSAGE_EXCEEDED"}).encode()
SLOTS = json.dumps({"errorCode": "contacts:tooManyActiveImports", "description": "too many"}).encode()
MISSING = json.dumps({"errorCode": "contacts:importNotFound", "description": "not found"}).encode()


def _of(kind: str, **values: Any) -> Callable[[int], Fault]:
    return lambda nth: Fault(kind, service=None, nth=nth, **values)  # type: ignore[arg-type]  # a table of kinds


def _status(change: dict[str, Any]) -> Callable[[int], Fault]:
    """Change what every answer from the nth on says of an import, if it is about one."""

    def rewrite(response: Response) -> Response:
        from nosto_dotdigital_sandbox.web import Response as Answer  # noqa: PLC0415

        body = json.loads(response.body or b"{}")
        return Answer.of({**body, **change}) if isinstance(body, dict) and "status" in body else response

    return lambda nth: Fault("rewrite", path="/contacts/v3/import/", nth=nth, times=3, rewrite=rewrite)


# kind of fault -> the fault at the nth call; faults of a lasting kind strike all calls from there on
ANYWHERE: dict[str, Callable[[int], Fault]] = {
    "connection dropped before the request": _of("drop_before"),
    "connection dropped after it was accepted": _of("drop_after"),
    "connection dropped in the answer": _of("cut"),
    "malformed JSON": _of("garble"),
    "no answer until the time-out": _of("hang", hang_seconds=5),
    **{f"status {status}": _of("answer", response=answer(status)) for status in (500, 502, 503, 504)},
    "status 503 for good": _of("answer", times=999, response=answer(503)),
    "connection dropped after it was accepted, for good": _of("drop_after", times=999),
    "rate limit (429)": _of("answer", response=answer(429, headers={"X-RateLimit-Reset": "7", "X-RateLimit-Remaining": "0"})),
    "hourly cap (400)": _of("answer", response=answer(400, CAPPED)),
}
AT_IMPORTS: dict[str, Callable[[int], Fault]] = {
    "all slots taken (429)": lambda nth: Fault("answer", method="PUT", nth=nth, times=2, response=answer(429, SLOTS)),
    "404 after 202": lambda nth: Fault("answer", path="/contacts/v3/import/", nth=nth, times=2, response=answer(404, MISSING)),
    "404 for good": lambda nth: Fault("answer", path="/contacts/v3/import/", nth=nth, times=999, response=answer(404, MISSING)),
    "unknown status": _status({"status": "Meditating", "created": None, "updated": None, "failures": None}),
    "empty status": _status({"status": ""}),
}
OUTCOMES = ("Failed", "RejectedByWatchdog", "ExceedsAllowedContactLimit")


@dataclass(slots=True)
class Line:
    """One line of the table."""

    tried: int = 0
    failed: int = 0
    lost: int = 0
    duplicates: int = 0
    consent: int = 0
    early: int = 0
    extra: int = 0
    problems: list[str] = field(default_factory=list)


class Drill:
    """A shop that was synchronised on day one, and day two with a fault at one call; then again without.

    Args:
        folder: where everything goes.
        contacts: how many the shop has.
    """

    def __init__(self, folder: Path, contacts: int = CONTACTS) -> None:
        """Deliver day one."""
        self.shop = Shop(contacts, change_per_mille=500, vanish_per_mille=30, new_per_mille=60, doubled_per_mille=5)
        self.per_import = contacts // 10
        self.time = FakeTime()
        self.sandbox = Sandbox(clock=self.time.now, wall=self.time.wall)
        self.folder = folder
        self.pipeline = Pipeline(self.sandbox, folder / "day", self.time)
        self.pipeline.target |= {
            "contacts_per_import": self.per_import,
            "max_active_imports": WINDOW,
            "request_timeout": 1,
            "max_change_percent": 100,
            "max_clear_percent": 100,
            "import_timeout": 3600,
        }
        self.pipeline.tap |= {"max_shrink_percent": 100}
        self.days = [expected(self.shop.export(day)) for day in range(2)]
        self.pipeline.activate("contact_segments")
        self.pipeline.export(self.shop.export(0))
        outcome = self.pipeline.run()
        assert outcome.code == 0, outcome.log
        self.state = copy.deepcopy(self.pipeline.state)
        self._account = copy.deepcopy(
            {name: getattr(self.sandbox.account, name) for name in ("contacts", "books", "fields", "imports")}
        )
        shutil.copytree(folder / "day", folder / "kept")
        self.pipeline.export(self.shop.export(1), 1)
        self.text = run_tap(self.pipeline.tap, self.state).output
        shutil.rmtree(folder / "kept" / "snapshots")
        shutil.copytree(folder / "day" / "snapshots", folder / "kept" / "snapshots")
        self.changed = len([line for line in self.text.splitlines() if '"RECORD"' in line])
        self.table: dict[str, Line] = defaultdict(Line)

    def close(self) -> None:
        """Stop the sandbox."""
        self.sandbox.close()

    def reset(self) -> None:
        """Go back to the evening of day one."""
        account = self.sandbox.account
        self.sandbox.faults.clear()
        self.sandbox.journal.clear()
        for name, value in copy.deepcopy(self._account).items():
            setattr(account, name, value)
        account.by_email = {contact.email.strip().lower(): contact for contact in account.contacts.values()}
        account.outcomes, account.partial, account.forget_rows = [], 1.0, 0
        account.refuse = lambda _email: None
        shutil.rmtree(self.folder / "day")
        shutil.copytree(self.folder / "kept", self.folder / "day")
        self.pipeline.state = copy.deepcopy(self.state)
        self.pipeline.export(self.shop.export(1), 1)

    def calls(self) -> int:
        """Count the calls to dotdigital of a day two without faults."""
        self.reset()
        assert self.pipeline.load(self.text).code == 0
        return len(self.sandbox.journal.calls("dotdigital")) + len(self.sandbox.journal.calls("elsewhere"))

    def imports(self) -> int:
        """Count the imports of a day two."""
        return -(-self.changed // self.per_import)

    def strike(
        self, kind: str, prepare: Callable[[], None], run: Callable[[], Outcome] | None = None, *, back: bool = False
    ) -> Line:
        """Play one fault, then the run without faults, and hold the end against the oracle.

        Args:
            kind: the line of the table.
            prepare: puts the fault on the script.
            run: how day two is run; None runs the target in this process.
            back: whether the run afterwards brings day one's export again, made later.
        """
        line = self.table[kind]
        line.tried += 1
        self.reset()
        prepare()
        outcome = run() if run else self.pipeline.load(self.text)
        line.failed += outcome.code != 0
        try:
            assert "Traceback" not in outcome.log
            assert "defect" not in outcome.log, outcome.log[-600:]
            if outcome.state is not None and outcome.state != self.state:
                line.early += not self._is_right(self.days[1])
            self._finish(line, back=back)
        except AssertionError as error:
            line.problems.append(str(error)[:300])
        return line

    def _finish(self, line: Line, *, back: bool) -> None:
        self.sandbox.faults.clear()
        account = self.sandbox.account
        account.outcomes, account.partial, account.forget_rows = [], 1.0, 0
        account.refuse = lambda _email: None
        account.settle()
        first = self._sent()
        if back:
            self.pipeline.export(self.shop.export(0) + b"\n", 2)
        if (self.folder / "day" / "reports" / "report.json").exists() and self.pipeline.report["held"]:
            # what the Data Watchdog rejected is held until the operator says otherwise
            run_target(self.pipeline.target, "", self.time, release=True)
        outcome = self.pipeline.run()
        assert outcome.code == 0, outcome.log[-800:]
        wanted = self.days[0] if back else self.days[1]
        gone = sorted(set(self.days[0]) - set(self.days[1])) if not back else sorted(set(self.days[1]) - set(self.days[0]))
        there = account.snapshot()
        addresses = [email.strip().lower() for email in there]
        line.lost += len(set(wanted) - set(addresses))
        line.duplicates += len(addresses) - len(set(addresses))
        assert_account(self.sandbox, wanted, gone=[email for email in gone if email in addresses])
        if not back:
            line.extra = max(line.extra, self._sent() - self.changed)
            assert self._sent() - self.changed <= WINDOW * self.per_import, f"{self._sent()} sent of {self.changed} (first {first})"
        for call in self.sandbox.journal.imports():
            line.consent += b"channelProperties" in call.body or b"optIn" in call.body
        assert_allowed(self.sandbox)

    def _sent(self) -> int:
        """Count the rows of all imports that dotdigital took up, heard of or not."""
        account = self.sandbox.account
        account.settle()
        rejected = sum(len(job.failures) for key, job in account.imports.items() if key not in self._account["imports"])
        # a call without a status was cut off, before or after it was taken up
        taken = [call for call in self.sandbox.journal.imports() if call.status in {202, None}]
        return sum(len(call.json()["contacts"]) for call in taken) - rejected

    def _is_right(self, wanted: dict[str, list[str]]) -> bool:
        try:
            assert_account(self.sandbox, wanted, gone=sorted(set(self.days[0]) - set(wanted)))
        except AssertionError:
            return False
        return True

    # What is tried

    def scenarios(self, *, every: int = 1) -> Iterator[tuple[str, Callable[[], None], bool]]:
        """Give each fault at each call: its name, what puts it on the script, and whether day one comes back after it."""
        faults = self.sandbox.faults
        calls, imports, account = self.calls(), self.imports(), self.sandbox.account
        for kind, make in ANYWHERE.items():
            for nth in range(1, calls + 1, every):
                yield kind, lambda make=make, nth=nth: faults.add(make(nth)), False  # type: ignore[misc]
            yield kind, lambda make=make: faults.add(make(calls // 2)), True  # type: ignore[misc]
        for kind, make in AT_IMPORTS.items():
            for nth in range(1, imports + 1, every):
                for back in (False, True):
                    yield kind, lambda make=make, nth=nth: faults.add(make(nth)), back  # type: ignore[misc]
        for outcome in OUTCOMES:
            for nth in range(0, imports, every):
                for part in (1.0, 0.5):
                    for back in (False, True):

                        def prepare(outcome: str = outcome, nth: int = nth, part: float = part) -> None:
                            account.outcomes = ["Finished"] * nth + [outcome] * (2 if nth % 2 else 1)
                            account.partial = part

                        yield f"import ends as {outcome}", prepare, back
        for back in (False, True):
            yield "half of the rows rejected", lambda: setattr(account, "refuse", lambda e: "tooBusy" if len(e) % 2 else None), back
            yield "a report that names fewer rows", lambda: setattr(account, "forget_rows", 7), back

    def run(self, *, every: int = 1, report: Callable[[str], None] = lambda _text: None) -> None:
        """Run all faults at the calls to dotdigital, in this process."""
        for kind, prepare, back in self.scenarios(every=every):
            self.strike(kind, prepare, back=back)
            report(kind)

    def kills(self, *, every: int = 1, numbers: tuple[signal.Signals, ...] = (signal.SIGKILL,)) -> None:
        """Kill the target's process just before and just after each call."""
        calls = self.calls()
        for number in numbers:
            for moment in ("before", "after"):
                for nth in range(1, calls + 1, every):
                    self._kill(number, moment, nth)

    def _kill(self, number: signal.Signals, moment: str, nth: int) -> None:
        running: list[subprocess.Popen[bytes]] = []

        def strike(_request: Request) -> None:
            running[0].send_signal(number)
            if number is signal.SIGKILL:
                running[0].wait(10)

        def run() -> Outcome:
            fault = Fault("drop_after", service=None, nth=nth, **{moment: strike})  # type: ignore[arg-type]  # before or after
            if number is not signal.SIGKILL:
                fault.kind, fault.hang_seconds = "hang", 10
                fault.before = strike
            self.sandbox.faults.add(fault)
            path = self.folder / "target.json"
            path.write_text(json.dumps({**self.pipeline.target, "poll_interval_ms": 1}))
            (self.folder / "input.jsonl").write_text(self.text)
            with (self.folder / "input.jsonl").open() as source:
                process = subprocess.Popen(
                    [BIN / "target-dotdigital", "--config", path], stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
                running.append(process)
                output, log = process.communicate(timeout=60)
            if process.returncode == 0:
                return Outcome(0, output.decode(), log.decode())
            assert output == b"", "no STATE from a run that was killed"
            return Outcome(process.returncode, "", log.decode())

        name = "process killed" if number is signal.SIGKILL else f"{number.name}"
        self.strike(f"{name} just {moment} the call", lambda: None, run)

    def nosto(self, *, every: int = 1) -> None:
        """Run all faults at the calls to Nosto: whatever the tap emitted before it ended, the account is right afterwards."""
        del every
        makers = {
            **ANYWHERE,
            "truncated export": _of("cut", times=99),
            "wrong token": _of("answer", times=99, response=answer(401)),
            "not ready": _of("answer", times=99, response=answer(404)),
        }
        for kind, make in makers.items():

            def run(make: Callable[[int], Fault] = make) -> Outcome:
                shutil.rmtree(self.folder / "day" / "snapshots")
                shutil.copytree(self.folder / "kept" / "snapshots", self.folder / "day" / "snapshots")
                fault = make(1)
                fault.service = "nosto"
                self.sandbox.faults.add(fault)
                self.pipeline.tap["request_timeout"] = 1
                return self.pipeline.run()

            self.strike(f"Nosto: {kind}", lambda: None, run)

    def markdown(self) -> str:
        """Give the table."""
        rows = [
            "| fault | tried | runs that ended in an error | contacts lost | duplicates | consent fields sent | STATE too early | extra contacts sent, at most |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        rows += [
            f"| {kind} | {x.tried} | {x.failed} | {x.lost} | {x.duplicates} | {x.consent} | {x.early} | {max(0, x.extra)} |"
            for kind, x in self.table.items()
        ]
        total = Counter[str]()
        for x in self.table.values():
            total.update(tried=x.tried, failed=x.failed, lost=x.lost, duplicates=x.duplicates, consent=x.consent, early=x.early)
        most = max((x.extra for x in self.table.values()), default=0)
        rows.append(
            f"| **all** | **{total['tried']}** | {total['failed']} | **{total['lost']}** | **{total['duplicates']}** | "
            f"**{total['consent']}** | **{total['early']}** | {most} |"
        )
        return "\n".join(rows)

    @property
    def problems(self) -> list[str]:
        """What did not hold."""
        return [f"{kind}: {problem}" for kind, line in self.table.items() for problem in line.problems]


def main() -> int:
    """Run everything, and print the table."""
    started = real_time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        drill = Drill(Path(folder))
        try:
            print(
                f"Day two: {drill.changed} contacts change, {drill.calls()} calls, {drill.imports()} imports of {drill.per_import}.",
                flush=True,
            )
            drill.run(
                report=lambda kind: print(f"\r{sum(x.tried for x in drill.table.values()):>5}  {kind:<60}", end="", flush=True)
            )
            drill.nosto()
            drill.kills()
            drill.kills(every=2, numbers=(signal.SIGTERM,))
        finally:
            drill.close()
        print(f"\n\n{drill.markdown()}\n")
        for problem in drill.problems:
            print(f"DOES NOT HOLD: {problem}")
        print(f"{real_time.monotonic() - started:.0f} s")
        return 1 if drill.problems else 0


if __name__ == "__main__":
    sys.exit(main())
