"""Fixtures: a sandbox that is held to the rules of the wire, and a pipeline on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nosto_dotdigital_sandbox import Sandbox
from support.running import FakeTime, Pipeline
from support.wire import assert_allowed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def time() -> FakeTime:
    """Time that passes only when somebody waits for it."""
    return FakeTime()


@pytest.fixture
def sandbox(time: FakeTime, request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox; whatever a test does, its traffic must be allowed."""
    with Sandbox(clock=time.now, wall=time.wall) as started:
        yield started
        marker = request.node.get_closest_marker("fields")
        assert_allowed(started, marker.args if marker else ())


@pytest.fixture
def pipeline(sandbox: Sandbox, tmp_path: Path, time: FakeTime) -> Pipeline:
    """The pipeline, switched on."""
    made = Pipeline(sandbox, tmp_path, time)
    made.activate()
    sandbox.journal.clear()
    return made
