"""The SDK's test suite for taps, and what `--about` says of the settings."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import Shop
from singer_sdk.testing import SuiteConfig, get_tap_test_class
from support.streams import catalog
from tap_nosto_segments.tap import TapNostoSegments

if TYPE_CHECKING:
    from collections.abc import Iterator

# the SDK's factory needs the settings when this file is imported
FOLDER = Path(tempfile.gettempdir()) / f"tap-nosto-segments-standard-{os.getpid()}"
CONFIG = {"export_url": str(FOLDER / "export.jsonl"), "snapshot_uri": str(FOLDER / "snapshots"), "max_export_age_hours": 0}
OPEN = contextlib.ExitStack()


class ExtractedTap(TapNostoSegments):
    """The tap within the block that its command opens."""

    def run_discovery(self) -> str:
        """Leave the extraction alone."""
        return super().run_discovery()

    @property
    def streams(self) -> Any:
        """The streams, prepared when they are first used."""
        streams = super().streams
        if FOLDER.exists() and not getattr(self, "_is_extracted", False):
            self._is_extracted = True
            OPEN.enter_context(self.extracting())
        return streams


Standard = get_tap_test_class(
    ExtractedTap, config=dict(CONFIG), catalog=catalog(), suite_config=SuiteConfig(max_records_limit=50), parse_env_config=False
)


class TestStandard(Standard):  # type: ignore[misc, valid-type]  # the factory creates the class at run time
    """The standard suite on a local file."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def export(cls) -> Iterator[None]:
        """Write the export, and delete it afterwards."""
        FOLDER.mkdir(exist_ok=True)
        Shop(100).write(FOLDER / "export.jsonl", 0)
        with OPEN:
            yield
        shutil.rmtree(FOLDER)


def test_every_setting_is_described_and_unknown_ones_are_rejected() -> None:
    settings = TapNostoSegments.config_jsonschema
    assert {name for name, facts in settings["properties"].items() if facts.get("secret")} == {"export_token", "api_token"}
    assert settings["additionalProperties"] is False
    assert [name for name, facts in settings["properties"].items() if not (facts.get("description") and facts.get("title"))] == []
