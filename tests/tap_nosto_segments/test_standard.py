"""The SDK's test suite for taps, the discovered catalog, and the command line."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from nosto_dotdigital_sandbox import Shop
from singer_sdk.testing import SuiteConfig, get_tap_test_class
from support.running import BIN
from tap_nosto_segments.tap import TapNostoSegments

if TYPE_CHECKING:
    from collections.abc import Iterator

# the SDK's factory needs the settings when this file is imported
FOLDER = Path(tempfile.gettempdir()) / f"tap-nosto-segments-standard-{os.getpid()}"
CONFIG = {"export_url": str(FOLDER / "export.jsonl"), "snapshot_uri": str(FOLDER / "snapshots"), "max_export_age_hours": 0}
CATALOG = TapNostoSegments(config=dict(CONFIG), validate_config=False, setup_mapper=False).catalog_dict
for entry in CATALOG["streams"]:
    next(one for one in entry["metadata"] if not one["breadcrumb"])["metadata"]["selected"] = True
Standard = get_tap_test_class(
    TapNostoSegments,
    config=dict(CONFIG),
    catalog=CATALOG,
    suite_config=SuiteConfig(max_records_limit=50),
    parse_env_config=False,
)


class TestStandard(Standard):  # type: ignore[misc, valid-type]  # the factory creates the class at run time
    """The standard suite on a local file."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def export(cls) -> Iterator[None]:
        """Write the export, and delete it afterwards."""
        FOLDER.mkdir(exist_ok=True)
        Shop(100).write(FOLDER / "export.jsonl", 0)
        yield
        subprocess.run(["rm", "-r", FOLDER], check=True)


def run(*arguments: object) -> str:
    return subprocess.run([BIN / "tap-nosto-segments", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def test_discovery_needs_no_settings_and_offers_three_streams() -> None:
    catalog: dict[str, Any] = json.loads(run("--discover"))
    shown = {
        stream["tap_stream_id"]: (stream["key_properties"], stream["replication_method"], sorted(stream["schema"]["properties"]))
        for stream in catalog["streams"]
    }
    assert shown == {
        "contact_segments": (["email"], "INCREMENTAL", ["_sdc_deleted_at", "email", "exported_at", "segments"]),
        "segment_changes": (["email", "segment", "exported_at"], "INCREMENTAL", ["change", "email", "exported_at", "segment"]),
        "segments": (["name"], "FULL_TABLE", ["contact_count", "id", "name", "selected"]),
    }


def test_about_marks_secrets_and_rejects_unknown_settings() -> None:
    about: dict[str, Any] = json.loads(run("--about", "--format=json"))
    secrets = {name for name, facts in about["settings"]["properties"].items() if facts.get("secret")}
    assert secrets == {"export_token", "api_token"}
    assert about["settings"]["additionalProperties"] is False
    for name, facts in about["settings"]["properties"].items():
        assert facts.get("description"), name
        assert facts.get("title"), name


def test_a_misspelt_setting_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"export_url": "x", "segmets": ["A"]}))
    done = subprocess.run([BIN / "tap-nosto-segments", "--config", path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "'segmets' was unexpected" in done.stderr
    assert "Traceback" not in done.stderr
