"""Fixtures: a sandbox that is held to the rules of the wire, and a pipeline on it."""

from __future__ import annotations

import atexit
import os
import sys
import uuid
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from nosto_dotdigital_sandbox import Sandbox
from support.running import FakeTime, Pipeline
from support.wire import assert_allowed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


ENDED = pytest.StashKey[int]()
POSTGRES = os.environ.get("TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/test")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember how the tests ended."""
    session.config.stash[ENDED] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End here, with pytest's closing line as the last: DuckDB's bindings list what the interpreter has not freed when it ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    if hasattr(config, "workerinput"):
        # one of several workers has yet to tell the others how it ended
        atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))
    elif ENDED in config.stash:
        os._exit(config.stash[ENDED])


@pytest.fixture
def time() -> FakeTime:
    """Time that passes only when somebody waits for it."""
    return FakeTime()


@pytest.fixture
def sandbox(time: FakeTime, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox; whatever a test does, its traffic must be allowed. Modules that say `REAL_TIME` start processes of their own."""
    clocks = {} if getattr(request.module, "REAL_TIME", False) else {"clock": time.now, "wall": time.wall}
    with Sandbox(**clocks) as started:
        yield started
        marker = request.node.get_closest_marker("fields")
        assert_allowed(started, marker.args if marker else ())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of modules that say `LEDGERS` once for each kind of ledger."""
    if "ledger_url" in metafunc.fixturenames:
        metafunc.parametrize("ledger_url", getattr(metafunc.module, "LEDGERS", ["sqlite"]), indirect=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[sa.URL]:
    """A database of this session's own: the lock of a run is for a whole database, and others may be testing on the server."""
    engine = sa.create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    try:
        connection = engine.connect()
    except sa.exc.OperationalError:
        if "CI" in os.environ:
            raise
        pytest.skip("no PostgreSQL server at 127.0.0.1:5432; set TEST_POSTGRES to where one is")
    name = f"test_{uuid.uuid4().hex[:12]}"
    with connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        yield sa.make_url(POSTGRES).set(database=name)
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty ledger: a SQLite file, or a schema of its own in PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    database: sa.URL = request.getfixturevalue("postgres")
    engine = sa.create_engine(database, isolation_level="AUTOCOMMIT")
    schema = f"test_{uuid.uuid4().hex[:12]}"
    with engine.connect() as connection:
        connection.execute(sa.schema.CreateSchema(schema))
        yield database.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
        connection.execute(sa.schema.DropSchema(schema, cascade=True))
    engine.dispose()


@pytest.fixture
def pipeline(sandbox: Sandbox, tmp_path: Path, time: FakeTime, ledger_url: str) -> Pipeline:
    """The pipeline, switched on."""
    made = Pipeline(sandbox, tmp_path, time)
    made.target["ledger_url"] = ledger_url
    made.activate()
    sandbox.journal.clear()
    return made
