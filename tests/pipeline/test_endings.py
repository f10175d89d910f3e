"""However a run ends, the line on the screen is the first problem of its report, and no run that failed is reported as delivered."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sqlite3
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from nosto_dotdigital_sandbox import Fault
from nosto_dotdigital_sandbox.faults import answer
from support.cases import slow_except
from support.running import BIN, FakeTime, Outcome, Pipeline, run_target, singer
from target_dotdigital.errors import AnotherRunError, NoInputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox

LEDGERS, SLOW_LEDGERS = ["sqlite"], ["postgresql"]
HEALTHY = {"delivered", "partly delivered", "nothing to do"}


def people(*names: str, count: int = 3) -> str:
    records = [{"email": f"p{number}@example.com", "segments": list(names)} for number in range(count)]
    return singer(records, state={"names": list(names)})


def assert_failed(pipeline: Pipeline, outcome: Outcome, *words: str, code: int = 1) -> None:
    """Require that screen, report, page, history, ledger and exit code agree."""
    assert (outcome.code, outcome.output) == (code, ""), outcome.log
    assert all(word in outcome.errors[-1] for word in words), outcome.errors
    assert outcome.log.splitlines()[-1] == f"ERROR {outcome.errors[-1]}"
    assert "Traceback" not in outcome.log
    report = pipeline.report
    assert (report["outcome"], report["problems"][0]) == ("failed", outcome.errors[-1])
    assert len(report["problems"]) == len(set(report["problems"]))
    reports = pipeline.folder / "reports"
    newest = max((reports / "runs").glob("[0-9]*.json"))
    assert json.loads(newest.read_text()) == report
    assert len({json.loads(path.read_text())["started_at"] for path in (reports / "runs").glob("*.json")}) == len(
        list((reports / "runs").glob("*.json"))
    ), "a run has one file in the history"
    assert "Everything that the source said is delivered" not in (reports / "report.html").read_text()


def runs(pipeline: Pipeline) -> list[dict[str, Any]]:
    outcome = run_target(pipeline.target, "", pipeline.time, runs=True, json=True)
    assert outcome.code == 0, outcome.log
    return json.loads(outcome.output)  # type: ignore[no-any-return]


def sql(pipeline: Pipeline, *statements: str) -> None:
    engine = sa.create_engine(pipeline.target["ledger_url"])
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def assert_completed(pipeline: Pipeline, sandbox: Sandbox, *names: str) -> None:
    """Require that the next run delivers everything."""
    sandbox.faults.clear()
    outcome = pipeline.load(people(*names))
    assert outcome.code == 0, outcome.log
    assert pipeline.report["outcome"] in HEALTHY
    assert {contact.data_fields["NOSTOSEGMENT"] for contact in sandbox.account.snapshot().values()} == {";".join(names)}


# Exceptions wherever the run is


ERRORS: list[tuple[BaseException, int, str]] = [
    (OSError(errno.ENOSPC, "No space left on device", "/var/x"), 1, "the disk is full (/var/x)"),
    (OSError(errno.EROFS, "Read-only file system"), 1, "the file system is read-only"),
    (OSError(errno.EMFILE, "Too many open files"), 1, "too many files are open"),
    (PermissionError(errno.EACCES, "Permission denied", "/var/x"), 1, "permission is missing (/var/x)"),
    (OSError(errno.EXDEV, "Invalid cross-device link"), 1, "Unexpected OSError at "),
    (MemoryError(), 1, "Memory ran out"),
    (RuntimeError("a secret"), 1, "Unexpected RuntimeError at "),
    (RecursionError("a secret"), 1, "Unexpected RecursionError at "),
    (sa.exc.InvalidRequestError("a secret"), 1, "Unexpected InvalidRequestError at "),
    (SystemExit(128 + signal.SIGTERM), 143, "Ended by SIGTERM"),
    (SystemExit(128 + signal.SIGHUP), 129, "Ended by SIGHUP"),
    (KeyboardInterrupt(), 130, "Ended by SIGINT"),
]
SOME_ERRORS = [ERRORS[0], ERRORS[6], ERRORS[9]]


class Failing(FakeTime):
    """Time in which the first wait raises an exception."""

    def __init__(self, error: BaseException, before: FakeTime) -> None:
        super().__init__()
        self.seconds, self.skipped = before.seconds, before.skipped
        self._error: BaseException | None = error.with_traceback(None)

    def sleep(self, seconds: float) -> None:
        """Raise the exception, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error
        super().sleep(seconds)


@pytest.mark.parametrize(("error", "code", "words"), slow_except(SOME_ERRORS, ERRORS), ids=lambda one: str(one)[:24])
@pytest.mark.parametrize("path", ["account-info", "import"])
def test_any_exception_at_login_or_while_an_import_is_open(
    pipeline: Pipeline, sandbox: Sandbox, path: str, error: BaseException, code: int, words: str
) -> None:
    assert pipeline.load(people("A")).code == 0
    sandbox.faults.add(Fault("answer", path=f"{path}$", response=answer(503)))
    outcome = run_target(pipeline.target, people("B"), Failing(error, pipeline.time))
    assert_failed(pipeline, outcome, words, code=code)
    assert "a secret" not in outcome.log
    assert_completed(pipeline, sandbox, "B")


class Broken(io.StringIO):
    """An input that ends with an exception."""

    def __next__(self) -> str:  # type: ignore[override]  # typeshed's base class yields bytes
        """Return the next line; fail in place of the last one."""
        line = super().__next__()
        if json.loads(line)["type"] == "STATE":
            raise OSError(errno.EIO, "Input/output error")
        return line


class Meanwhile(io.StringIO):
    """An input during which another run starts, before its last line."""

    def __init__(self, text: str, start: Callable[[], Outcome]) -> None:
        super().__init__(text)
        self._start = start
        self.outcome: Outcome | None = None

    def __next__(self) -> str:  # type: ignore[override]  # typeshed's base class yields bytes
        """Return the next line; start the other run in front of the last one."""
        line = super().__next__()
        if json.loads(line)["type"] == "STATE":
            self.outcome = self._start()
        return line


def test_a_run_that_starts_while_another_one_reads_its_input_leaves_it_alone(pipeline: Pipeline) -> None:
    assert pipeline.load(people("A")).code == 0
    source = Meanwhile(people("B"), lambda: run_target(pipeline.target, people("C"), pipeline.time))
    assert run_target(pipeline.target, source, pipeline.time).code == 0
    assert source.outcome is not None
    assert isinstance(source.outcome.error, AnotherRunError)
    assert pipeline.report["outcome"] == "delivered"


def test_an_input_that_cannot_be_read_any_further(pipeline: Pipeline, sandbox: Sandbox) -> None:
    assert pipeline.load(people("A")).code == 0
    outcome = run_target(pipeline.target, Broken(people("B")), pipeline.time)
    assert_failed(pipeline, outcome, "a disk cannot be read or written")
    assert_completed(pipeline, sandbox, "B")


def test_a_day_without_input_says_so_in_as_few_lines_as_possible(pipeline: Pipeline) -> None:
    outcome = pipeline.load("")
    assert isinstance(outcome.error, NoInputError)
    version, cause = outcome.log.splitlines()
    assert version.startswith("INFO target-dotdigital v")
    assert cause == f"ERROR {pipeline.report['problems'][0]}"


# The ledger fails


def refuse(pipeline: Pipeline, table: str, action: str) -> Callable[[], None]:
    """Let the ledger refuse a statement; return what ends that."""
    if pipeline.target["ledger_url"].startswith("sqlite"):
        sql(pipeline, f"CREATE TRIGGER refused BEFORE {action} ON {table} BEGIN SELECT RAISE(ABORT, 'refused'); END")
        return lambda: sql(pipeline, "DROP TRIGGER refused")
    function = "CREATE FUNCTION refuse() RETURNS trigger AS 'BEGIN RAISE EXCEPTION ''refused''; END' LANGUAGE plpgsql"
    sql(pipeline, function, f"CREATE TRIGGER refused BEFORE {action} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")
    return lambda: sql(pipeline, f"DROP TRIGGER refused ON {table}", "DROP FUNCTION refuse")


@pytest.mark.parametrize(
    ("table", "action"),
    [
        ("dotdigital_bookmarks", "INSERT"),
        ("dotdigital_runs", "UPDATE"),
        ("dotdigital_imports", "UPDATE"),
        ("dotdigital_imports", "INSERT"),
    ],
)
def test_a_ledger_that_fails_when_something_is_stored(pipeline: Pipeline, sandbox: Sandbox, table: str, action: str) -> None:
    assert pipeline.load(people("A")).code == 0
    end = refuse(pipeline, table, action)
    outcome = pipeline.load(people("B"))
    assert_failed(pipeline, outcome, "a defect")
    end()
    assert runs(pipeline)[0]["outcome"] not in HEALTHY
    assert_completed(pipeline, sandbox, "B")


def test_a_ledger_that_another_program_locks_in_the_middle(pipeline: Pipeline, sandbox: Sandbox) -> None:
    if not pipeline.target["ledger_url"].startswith("sqlite"):
        pytest.skip("a lock of SQLite")
    assert pipeline.load(people("A")).code == 0
    path = pipeline.folder / "ledger.db"
    other = sqlite3.connect(path, check_same_thread=False)

    def lock(_request: object) -> None:
        other.execute("BEGIN IMMEDIATE")

    sandbox.faults.add(Fault("rewrite", method="PUT", before=lock, rewrite=lambda response: response))
    pipeline.target["ledger_url"] += "?timeout=0.2"
    outcome = pipeline.load(people("B"))
    assert_failed(pipeline, outcome, f"the file {path}", "another program holds it locked")
    other.rollback()
    other.close()
    assert_completed(pipeline, sandbox, "B")


@pytest.mark.parametrize("path", ["import$", "import/", "contacts/v3/email"])
def test_sessions_that_the_database_ends(pipeline: Pipeline, sandbox: Sandbox, path: str) -> None:
    if not pipeline.target["ledger_url"].startswith("postgresql"):
        pytest.skip("sessions of PostgreSQL")
    assert pipeline.load(people("A")).code == 0
    sandbox.faults.add(
        Fault("rewrite", path=path, times=9, before=lambda _: end_sessions(pipeline), rewrite=lambda response: response)
    )
    # to tell them from the sessions of the test
    pipeline.target["ledger_url"] += "&application_name=ledger"
    pipeline.target |= {"contacts_per_import": 1, "max_active_imports": 1}
    outcome = pipeline.load(people("B"))
    if outcome.code:
        assert_failed(pipeline, outcome)
        assert "defect" not in outcome.errors[-1]
    assert_completed(pipeline, sandbox, "B")


def end_sessions(pipeline: Pipeline) -> None:
    sql(
        pipeline,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ledger' AND pid <> pg_backend_pid()",
    )


# STATE cannot be written


@pytest.mark.parametrize(("device", "words"), [("/dev/full", "the disk is full"), (None, "the program that reads STATE has ended")])
def test_a_bookmark_that_cannot_be_handed_on(
    pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path, device: str | None, words: str
) -> None:
    assert pipeline.load(people("A")).code == 0
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**pipeline.target, "poll_interval_ms": 20}))
    read, write = os.pipe()
    os.close(read)
    with open(device or write, "wb") as output:  # noqa: PTH123 - a descriptor, too
        done = subprocess.run(
            [BIN / "target-dotdigital", "--config", path],
            input=people("B").encode(),
            stdout=output,
            stderr=subprocess.PIPE,
            check=False,
        )
    log = done.stderr.decode()
    assert done.returncode == 1, log
    assert words in log.splitlines()[-1]
    assert pipeline.report["outcome"] == "failed"
    assert words in pipeline.report["problems"][0]
    assert runs(pipeline)[0]["outcome"] == "failed"
    assert_completed(pipeline, sandbox, "B")


def test_a_second_signal_does_not_interrupt_the_report(sandbox: Sandbox, tmp_path: Path) -> None:
    """As Meltano and container runtimes send it again."""
    running: list[subprocess.Popen[str]] = []

    def terminate(_request: object) -> None:
        for _ in range(3):
            running[0].send_signal(signal.SIGTERM)

    with type(sandbox)() as real:
        live = Pipeline(real, tmp_path / "live")
        live.activate()
        real.faults.add(Fault("hang", path="import$", before=terminate, hang_seconds=20))
        path = tmp_path / "config.json"
        path.write_text(json.dumps({**live.target, "poll_interval_ms": 20}))
        running.append(
            subprocess.Popen(
                [BIN / "target-dotdigital", "--config", path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        output, log = running[0].communicate(people("A"), timeout=60)
        assert (running[0].returncode, output) == (143, ""), log
        assert "Ended by SIGTERM" in log.splitlines()[-1]
        assert live.report["outcome"] == "failed"
        assert live.report["problems"][0].startswith("Ended by SIGTERM")
        assert list((live.folder / "reports").glob(".*.part")) == []
