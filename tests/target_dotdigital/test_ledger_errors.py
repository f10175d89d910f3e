"""A ledger that cannot be used: the cause by its own name, in one line; and paths and folders as the operator has made them."""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from nosto_dotdigital_sandbox import Fault
from support.cases import slow_except
from support.running import Pipeline, singer
from target_dotdigital.ledger.database import cause_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox

TEXT = singer([{"email": f"p{number}@example.com", "segments": ["A"]} for number in range(40)])


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: path.write_bytes(b"no database at all, but long enough for a header" * 99), "it is damaged, or not a SQLite"),
        (lambda path: sqlite3.connect(path).executescript("CREATE TABLE theirs (a); VACUUM").close(), "belongs to another program"),
        (lambda path: path.mkdir(), "it cannot be opened"),
        (lambda path: path.symlink_to("/proc/nothing/here"), "it cannot be opened"),
        (lambda path: path.symlink_to("/dev/full"), "the file "),
    ],
    ids=["garbage", "of another program", "folder", "dangling", "device"],
)
def test_a_file_that_is_no_ledger(pipeline: Pipeline, tmp_path: Path, prepare: Callable[[Path], Any], words: str) -> None:
    path = tmp_path / "a ledger?.db"
    prepare(path)
    pipeline.target["ledger_url"] = f"sqlite:///{path}"
    assert_unusable(pipeline, words)


def assert_unusable(pipeline: Pipeline, *words: str) -> None:
    pipeline.sandbox.journal.clear()
    outcome = pipeline.load(TEXT)
    assert (outcome.code, outcome.output) == (1, "")
    assert outcome.errors[-1].startswith("The ledger cannot be used: ")
    assert all(word in outcome.errors[-1] for word in words), outcome.errors
    assert (pipeline.report["outcome"], pipeline.report["problems"][0]) == ("failed", outcome.errors[-1])
    assert "defect" not in outcome.log
    assert "secret" not in outcome.log
    assert pipeline.sandbox.journal.writes() == []


def test_a_file_that_is_locked_or_damaged(pipeline: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    pipeline.target["ledger_url"] = f"sqlite:///{path}?timeout=0.1"
    assert pipeline.load(TEXT).code == 0
    other = sqlite3.connect(path)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    assert_unusable(pipeline, f"the file {path}", "another program holds it locked")
    other.rollback()
    other.execute("PRAGMA locking_mode = NORMAL")
    other.execute("PRAGMA journal_mode = DELETE")
    other.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    assert_unusable(pipeline, f"the file {path}", "it is damaged, or not a SQLite database")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+psycopg://user:p@ss:secret@127.0.0.1:5432/test", "write @ as %40"),
        ("postgresql+psycopg://user:p@secret@127.0.0.1/test", "write @ as %40"),
        ("postgresql+psycopg://user:secret@127.0.0.1:port/test", "a port is a number"),
        ("postgresql+psycopg://user:se]cret@[::1/test", "cannot be read"),
        ("postgres://user:secret@127.0.0.1/test", "postgresql+psycopg://"),
        ("mysql+pymysql://user:secret@127.0.0.1/test", "postgresql+psycopg://"),
        ("secret", "sqlite:///path"),
        ("", "sqlite:///path"),
        ("postgresql+nothing://user:secret@127.0.0.1/test", "driver"),
        ("postgresql+psycopg2://user:secret@127.0.0.1/test", "driver"),
        ("postgresql+psycopg://user:secret@127.0.0.1:1/test", "the server cannot be reached"),
        ("postgresql+psycopg://user:secret@no-such-host.invalid/test", "the server cannot be reached"),
    ],
)
def test_an_address_that_leads_to_no_ledger(pipeline: Pipeline, url: str, words: str) -> None:
    pipeline.target["ledger_url"] = url
    assert_unusable(pipeline, words)


@pytest.mark.parametrize(
    ("parts", "options", "words"),
    [
        ({"database": "no_such_database"}, "", "rejected the login"),
        ({"username": "no_such_user"}, "", "rejected the login"),
        ({}, "-cdefault_transaction_read_only=on", "read-only"),
        ({}, "-csearch_path=no_such_schema", "no such schema"),
        ({}, "-cstatement_timeout=1", "time-outs"),
    ],
    ids=["database", "user", "replica", "schema", "time-out"],
)
def test_a_server_that_does_not_serve(
    pipeline: Pipeline, postgres: sa.URL, parts: dict[str, Any], options: str, words: str
) -> None:
    query = {"options": options} if options else {}
    pipeline.target["ledger_url"] = postgres.set(**parts).update_query_dict(query).render_as_string(hide_password=False)
    assert_unusable(pipeline, "PostgreSQL: ", words)


def test_a_wrong_statement_of_ours_is_a_defect_and_no_full_disk(pipeline: Pipeline, sandbox: Sandbox) -> None:
    assert pipeline.load(TEXT).code == 0

    def drop(_request: object) -> None:
        engine = sa.create_engine(pipeline.target["ledger_url"])
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE dotdigital_imports RENAME COLUMN import_id TO something_else")
        engine.dispose()

    sandbox.faults.add(Fault("rewrite", method="PUT", before=drop, rewrite=lambda response: response))
    outcome = pipeline.load(TEXT.replace('["A"]', '["B"]'))
    assert outcome.code == 1
    assert "Error at " in outcome.errors[-1]
    assert "a defect" in outcome.errors[-1]
    assert "disk" not in outcome.errors[-1]
    assert (pipeline.report["outcome"], pipeline.report["problems"][0]) == ("failed", outcome.errors[-1])


def sqlite_error(tmp_path: Path, *statements: str, mode: str = "rwc") -> sqlite3.Error:
    path = tmp_path / "any.db"
    first = sqlite3.connect(path)
    first.execute("CREATE TABLE IF NOT EXISTS numbers (number INTEGER UNIQUE)")
    first.commit()
    first.close()
    connection = sqlite3.connect(f"file:{path}?mode={mode}", uri=True)
    try:
        for statement in statements:
            connection.execute(statement)
    except sqlite3.Error as error:
        return error
    finally:
        connection.close()
    pytest.fail("no error")


@pytest.mark.parametrize(
    ("statements", "mode", "words"),
    [
        (["INSERT INTO numbers VALUES (1)"], "ro", "it is read-only"),
        (["PRAGMA max_page_count = 3", "CREATE TABLE large AS SELECT zeroblob(99999)"], "rwc", "the disk is full"),
        (["SELECT nothing FROM numbers"], "rwc", None),
        (["SELECT * FROM nothing"], "rwc", None),
        (["SELEC"], "rwc", None),
        (["INSERT INTO numbers VALUES (1), (1)"], "rwc", None),
    ],
)
def test_errors_of_sqlite_by_their_own_names(tmp_path: Path, statements: list[str], mode: str, words: str | None) -> None:
    cause = cause_of(sqlite_error(tmp_path, *statements, mode=mode))
    assert (words in (cause or "")) if words else cause is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, ""), "the disk is full"),
        (OSError(errno.EDQUOT, ""), "the disk is full"),
        (PermissionError(errno.EACCES, ""), "permission is missing"),
        (OSError(errno.EROFS, ""), "it is read-only"),
        (NotADirectoryError(errno.ENOTDIR, ""), "it cannot be opened (NotADirectoryError)"),
    ],
)
def test_errors_of_the_file_system_by_their_own_names(error: OSError, words: str) -> None:
    assert words in str(cause_of(error))


@pytest.mark.parametrize("name", slow_except({"a b", "a?x=1"}, ["a b", "a?b", "a?x=1", "a%20b", "a#b", "a@b", "ä:1", "a&b=c"]))
def test_a_path_may_hold_any_character(pipeline: Pipeline, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    pipeline.target |= {"ledger_url": f"sqlite:///{folder}/ledger.db", "report_dir": str(folder / "reports")}
    assert pipeline.load(TEXT).code == 0
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert (folder / "ledger.db").is_file()


def test_folders_that_exist_keep_their_mode(pipeline: Pipeline, tmp_path: Path) -> None:
    for name in ("ledgers", "reports"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o755)
    pipeline.target |= {"ledger_url": f"sqlite:///{tmp_path}/ledgers/ledger.db", "report_dir": str(tmp_path / "reports")}
    assert pipeline.load(TEXT).code == 0
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("ledgers", "reports", "reports/runs", "ledgers/ledger.db")}
    assert modes == {"ledgers": 0o755, "reports": 0o755, "reports/runs": 0o700, "ledgers/ledger.db": 0o600}
