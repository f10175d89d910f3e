"""The SDK's own test suite for targets, and what a plugin's command line must do."""

from __future__ import annotations

import contextlib
import importlib.resources
import io
import json
import subprocess
from typing import Any

import pytest
from singer_sdk.testing import SuiteConfig, get_target_test_class
from singer_sdk.testing.runners import TargetTestRunner
from support.running import BIN, START, Pipeline, covering
from target_dotdigital.errors import IncompleteInputError
from target_dotdigital.reporting.report import Report
from target_dotdigital.target import TargetDotdigital

FILES = importlib.resources.files("singer_sdk.testing") / "target_test_streams"


def streams() -> set[str]:
    """Give the names of all streams in the suite's files."""
    lines = (line for file in FILES.iterdir() if file.name.endswith(".singer") for line in file.read_text().splitlines())
    return {message["stream"] for message in map(json.loads, lines) if "stream" in message}


Standard = get_target_test_class(TargetDotdigital, config={}, suite_config=SuiteConfig(), parse_env_config=False)


class TestStandard(Standard):  # type: ignore[misc, valid-type]  # the factory makes its class when it runs
    """The standard suite against a sandbox."""

    @pytest.fixture
    def runner(self, pipeline: Pipeline) -> TargetTestRunner:
        """A runner on the sandbox; a map gives the suite's streams, which hold no contacts, an address and names."""
        maps = {name: {"email": "'suite@example.com'", "segments": "'A'"} for name in streams()}
        code = pipeline.target["activation_code"]

        class Runner(TargetTestRunner):
            """Activates the sync for the streams of a test's file."""

            def sync_all(self, *, finalize: bool = True, **kwargs: Any) -> None:
                with self.target_input as source:
                    text = source.read()
                self.target_input = io.StringIO(text)
                named = {message["stream"] for message in map(json.loads, text.splitlines()) if message["type"] == "SCHEMA"}
                self.config["activation_code"] = covering(code, named)
                super().sync_all(finalize=finalize, **kwargs)

            def _execute_sync(self, target: Any, target_input: Any, *, finalize: bool = True) -> Any:
                assert finalize
                output, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
                with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                    target.sync(Report(started_at=START), target_input)
                output.seek(0)
                errors.seek(0)
                return output, errors

        config = {**pipeline.target, "stream_maps": maps, "poll_interval_ms": 1}
        return Runner(TargetDotdigital, config=config, suite_config=SuiteConfig(), parse_env_config=False)

    def test_target_special_chars_in_attributes(self, runner: TargetTestRunner) -> None:
        """The suite's records belong to a version that is never activated, and no STATE follows: the tap broke off."""
        runner.input_io = io.StringIO((FILES / "special_chars_in_attributes.singer").read_text())
        with pytest.raises(IncompleteInputError, match="What it said was delivered"):
            runner.sync_all()


def test_about_names_every_setting_with_title_and_description() -> None:
    done = subprocess.run([BIN / "target-dotdigital", "--about", "--format=json"], capture_output=True, text=True, check=True)
    about: dict[str, Any] = json.loads(done.stdout)
    for name, facts in about["settings"]["properties"].items():
        assert facts.get("description"), name
        assert facts.get("title"), name
    assert about["settings"]["properties"]["api_password"]["secret"] is True
    assert about["settings"]["additionalProperties"] is False


def test_version() -> None:
    done = subprocess.run([BIN / "target-dotdigital", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("target-dotdigital v0.1.0")
