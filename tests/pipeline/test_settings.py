"""Settings that are written as text: read as they are meant in both plugins, or refused by name; never read as off."""

from __future__ import annotations

import json
import os
import subprocess
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.exceptions import ConfigValidationError
from support.meltano import ROOT, Project
from support.running import BIN, Outcome, Pipeline, run_tap, run_target, singer
from tap_nosto_segments import environment as tap_environment
from tap_nosto_segments.errors import SettingsError as TapSettingsError
from tap_nosto_segments.tap import TapNostoSegments
from target_dotdigital import environment as target_environment
from target_dotdigital.errors import SettingsError
from target_dotdigital.models import Uploads
from target_dotdigital.settings import Settings
from target_dotdigital.target import TargetDotdigital

if TYPE_CHECKING:
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox

ONE = singer([{"email": "a@example.com", "segments": ["A"]}])
TRUE = [
    *["true", "TRUE", "True", "1", "yes", "Yes", "on", "ON", "y", "Y"],
    " true\n",
    '"true"',
    "'on'",
    ' "yes" ',
    "\u00a0true",
    "\u201ctrue\u201d",
]
FALSE = [*["false", "False", "FALSE", "0", "no", "off", "n", "N"], " off ", '"false"', "'0'", "\tno"]
NEITHER = [
    *["enabled", "disabled", "ja", "t", "true!", "tru", "2", "-1", "10", "null", "None", "truefalse", "1.0"],
    "",
    " ",
    '""',
    "\u200btrue",
]


@pytest.mark.parametrize("value", [' "yes" ', 1])
def test_a_dry_run_that_is_switched_on_writes_nothing(pipeline: Pipeline, sandbox: Sandbox, value: Any) -> None:
    pipeline.target["dry_run"] = value
    assert pipeline.load(ONE).code == 0
    assert (pipeline.report["outcome"], sandbox.journal.writes()) == ("dry run", [])


@pytest.mark.parametrize("value", ["off", 0, None])
def test_a_dry_run_that_is_switched_off_delivers(pipeline: Pipeline, sandbox: Sandbox, value: Any) -> None:
    pipeline.target["dry_run"] = value
    assert pipeline.load(ONE).code == 0
    assert set(sandbox.account.snapshot()) == {"a@example.com"}


@pytest.mark.parametrize("value", ["enabled", "", 2, 0.5])
def test_a_switch_that_cannot_be_read_is_refused(pipeline: Pipeline, sandbox: Sandbox, value: Any) -> None:
    pipeline.target["dry_run"] = value
    outcome = pipeline.load(ONE)
    assert (outcome.code, outcome.output, sandbox.journal.calls()) == (1, "", [])
    assert isinstance(outcome.error, ConfigValidationError if value == 0.5 else SettingsError)
    assert "dry_run" in outcome.errors[-1]
    assert (pipeline.report["outcome"], pipeline.report["problems"][0]) == ("failed", outcome.errors[-1])


def test_every_spelling_is_read_alike() -> None:
    schema = TargetDotdigital.config_jsonschema
    for texts, meant in ((TRUE, True), (FALSE, False)):
        for text in texts:
            read = target_environment.read_settings({"enclose_segments": text}, schema, from_environment=False)
            assert read["enclose_segments"] is meant, text
    for text in NEITHER:
        with pytest.raises(SettingsError, match="enclose_segments"):
            target_environment.read_settings({"enclose_segments": text}, schema, from_environment=False)


def test_every_switch_of_the_tap_is_read_alike(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()

    def run(value: Any) -> Outcome:
        # another folder each time: an export that was stored before is not judged again
        folder = str(tmp_path / f"snapshots {value!r}".replace('"', "").replace("'", "_"))
        config = {"export_url": str(empty), "snapshot_uri": folder, "max_export_age_hours": "0"}
        return run_tap({**config, "allow_empty_export": value})

    for text in ("yes", ' "true"', "On", 1):
        assert run(text).code == 0
    for text in ("no", "'off'", 0):
        outcome = run(text)
        assert (outcome.code, outcome.output) == (1, "")
        assert "or set allow_empty_export" in outcome.errors[-1]
    values: list[Any] = ["enabled", "", "2", 2, []]
    for value in values:
        outcome = run(value)
        assert (outcome.code, outcome.output) == (1, "")
        assert "allow_empty_export" in outcome.errors[-1]
        assert "settings cannot be used" in outcome.errors[-1]


@pytest.mark.parametrize("environment", [target_environment, tap_environment])
def test_booleans_of_both_schemas_have_no_reader_of_the_sdk(environment: Any) -> None:
    """The SDK must never read the environment itself: it takes each unknown text for false."""
    plugin: Any = TargetDotdigital if environment is target_environment else TapNostoSegments
    schema = plugin.config_jsonschema
    plugin.append_builtin_config(schema)
    names = [name for name, facts in schema["properties"].items() if "boolean" in facts["type"]]
    assert names
    for name in names:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(environment.variable_of(name), "enabled")
            with pytest.raises(Exception, match=f"{name} .*is not true or false"):
                plugin(config={}, parse_env_config=True, validate_config=False)


# Other types

# settings of the tap with the types of the target's
OF_THE_TAP = {"contacts_per_import": "max_invalid_lines", "exclude_emails": "segments", "segment_labels": "stream_maps"}


@pytest.mark.parametrize(
    ("name", "text", "meant"),
    [
        ("contacts_per_import", " 20 ", 20),
        ("contacts_per_import", '"20"', 20),
        ("contacts_per_import", "+5", 5),
        ("address_book_id", "'12'", 12),
        ("exclude_emails", '["*@example.org"]', ["*@example.org"]),
        ("exclude_emails", "['*@example.org', \"b\"]", ["*@example.org", "b"]),
        ("exclude_emails", " [] ", []),
        ("segment_priority", '\'["A", "B, C"]\'', ["A", "B, C"]),
        ("segment_labels", '{"A": "B"}', {"A": "B"}),
        ("batch_config", "null", None),
        *(("contacts_per_import", text, None) for text in ("twenty", "", "1_000", "1,000", "5.5", "1e3", "\u0665", "true")),
        *(("exclude_emails", text, None) for text in ('"*@example.com"', "*@example.com", "a,b", '["a", "b', '{"a": 1}')),
        *(("exclude_emails", text, None) for text in ("('a', 'b')", "", "[" * 100_000)),
        *(("segment_labels", text, None) for text in ("A: B", '["A"]')),
    ],
)
def test_numbers_lists_and_objects_are_read_as_text_or_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, meant: Any
) -> None:
    cases: list[tuple[Any, Any, str]] = [(target_environment, TargetDotdigital, name)]
    if name in OF_THE_TAP:
        cases.append((tap_environment, TapNostoSegments, OF_THE_TAP[name]))
    for environment, plugin, setting in cases:
        schema = deepcopy(plugin.config_jsonschema)
        plugin.append_builtin_config(schema)
        monkeypatch.setenv(environment.variable_of(setting), text)
        for config, reads in (({setting: text}, False), ({}, True)):
            if meant is None:
                with pytest.raises((SettingsError, TapSettingsError), match=setting) as caught:
                    environment.read_settings(config, schema, from_environment=reads)
                assert not text.strip("\" '") or text not in str(caught.value)
            else:
                assert environment.read_settings(config, schema, from_environment=reads)[setting] == meant


def test_null_stands_for_the_default_and_a_number_may_be_written_as_5_0() -> None:
    settings = Settings.from_config({"api_user": "u", "api_password": "p", "max_clear_percent": None, "contacts_per_import": 5.0})
    assert (settings.max_clear_percent, settings.contacts_per_import, settings.upload_emails) == (20, 5, Uploads.ALL)


# The environment


def run_with(pipeline: Pipeline, tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(pipeline.target))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TARGET_")} | variables
    command = [str(BIN / "target-dotdigital"), "--config", str(path), *arguments]
    return subprocess.run(command, input=ONE, env=environment, capture_output=True, text=True, check=False)


def test_the_environment_switches_a_dry_run_on(pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path) -> None:
    done = run_with(pipeline, tmp_path, "--config", "ENV", TARGET_DOTDIGITAL_DRY_RUN=' "Yes"')
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert sandbox.journal.writes() == []
    assert pipeline.report["outcome"] == "dry run"
    done = run_with(pipeline, tmp_path, "--config", "ENV", TARGET_DOTDIGITAL_DRY_RUN="enabled")
    assert done.returncode == 1
    assert "dry_run (TARGET_DOTDIGITAL_DRY_RUN) is not true or false" in done.stderr.splitlines()[-1]
    assert sandbox.journal.writes() == []


def lines(monkeypatch: pytest.MonkeyPatch, *names: str, config: dict[str, Any] | None = None, reads: bool = False) -> list[str]:
    """Return what is said about variables without effect."""
    for name in list(os.environ):
        if name.upper().startswith(("TARGET_DOTDIGITAL", "TAP_NOSTO")):
            monkeypatch.delenv(name)
    for name in names:
        variable, _, value = name.partition("=")
        monkeypatch.setenv(variable, value or "secret-value")
    found: list[str] = []
    for plugin, environment in ((TargetDotdigital, target_environment), (TapNostoSegments, tap_environment)):
        schema: dict[str, Any] = plugin.config_jsonschema
        plugin.append_builtin_config(schema)
        found += environment.variables_without_effect(config or {}, schema, from_environment=reads)
    assert "secret-value" not in "".join(found)
    return found


@pytest.mark.parametrize(
    ("variable", "suggested"),
    [
        ("TARGET_DOTDIGITAL_DRYRUN", "TARGET_DOTDIGITAL_DRY_RUN"),
        ("TARGET_DOTDIGITAL_DATA_FEILD", "TARGET_DOTDIGITAL_DATA_FIELD"),
        ("target_dotdigital_dry_run", "TARGET_DOTDIGITAL_DRY_RUN"),
        ("Target_Dotdigital_Activation_Code", "TARGET_DOTDIGITAL_ACTIVATION_CODE"),
        ("TARGET_DOTDIGITAL_BRAKE_OVERIDE_DATE", "TARGET_DOTDIGITAL_BRAKE_OVERRIDE_DATE"),
        ("TAP_NOSTO_SEGMENTS_SEGMENT", "TAP_NOSTO_SEGMENTS_SEGMENTS"),
        ("TAP_NOSTO_SEGMENTS_SHRINK_OVERRIDE", "TAP_NOSTO_SEGMENTS_SHRINK_OVERRIDE_DATE"),
        ("TARGET_DOTDIGITAL_XYZZY", None),
        ("TARGET_DOTDIGITAL_\x1b[31mRED", None),
    ],
)
def test_a_variable_that_is_not_a_setting_gets_a_hint(
    monkeypatch: pytest.MonkeyPatch, variable: str, suggested: str | None
) -> None:
    (line,) = lines(monkeypatch, variable)
    assert line.isprintable()
    assert line.startswith(variable[:18])
    assert (f"did you mean {suggested}?" in line) if suggested else ("--about" in line)


@pytest.mark.parametrize("plugin", ["TARGET_DOTDIGITAL", "TAP_NOSTO_SEGMENTS"])
def test_variables_of_meltano_and_of_other_programs_are_left_alone(monkeypatch: pytest.MonkeyPatch, plugin: str) -> None:
    own = [f"{plugin}_{name}" for name in ("_LOG_PARSER", "_DIALECT", "_SELECT", "LOGLEVEL", "LOADER", "EXTRACTOR")]
    own += ["TARGET_DOTDIGITAL_STREAM_MAPS_PEOPLE_EMAIL", "TARGET_DOTDIGITAL_SEGMENT_LABELS_A"]
    assert lines(monkeypatch, *own, "MELTANO_LOAD_DRYRUN", "TARGET_POSTGRES_DRYRUN", f"PATH_{plugin}") == []


def test_a_setting_in_the_environment_that_is_not_read_gets_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = lines(monkeypatch, "TARGET_DOTDIGITAL_DRY_RUN=true", config={"dry_run": False})
    assert line.startswith("TARGET_DOTDIGITAL_DRY_RUN has no effect: the settings come from the file of --config alone.")
    # as Meltano hands them on: in the file, too
    same = {"dry_run": True, "exclude_emails": ["a"], "max_clear_percent": 20, "api_user": "x"}
    assert lines(monkeypatch, "TARGET_DOTDIGITAL_DRY_RUN=True", "TARGET_DOTDIGITAL_EXCLUDE_EMAILS=['a']", config=same) == []
    assert lines(monkeypatch, "TARGET_DOTDIGITAL_API_USER=x", "TARGET_DOTDIGITAL_MAX_CLEAR_PERCENT=20", config=same) == []
    assert lines(monkeypatch, "TARGET_DOTDIGITAL_DRY_RUN=true", config={"dry_run": False}, reads=True) == []


def test_both_plugins_warn_of_such_variables(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.export(b'{"email": "a@example.com", "segments": ["A"]}\n')
    monkeypatch.setenv("TAP_NOSTO_SEGMENTS_SEGMENT", "secret-value")
    monkeypatch.setenv("TARGET_DOTDIGITAL_DRYRUN", "secret-value")
    for outcome, name in ((pipeline.extract(), "TAP_NOSTO_SEGMENTS_SEGMENTS"), (pipeline.load(ONE), "TARGET_DOTDIGITAL_DRY_RUN")):
        assert outcome.code == 0
        assert f"did you mean {name}?" in next(line for line in outcome.log.splitlines() if line.startswith("WARNING "))
        assert "secret-value" not in outcome.log


def test_a_command_reads_switches_alike(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TARGET_DOTDIGITAL_DRY_RUN", "enabled")
    outcome = run_target({**pipeline.target, "enclose_segments": "enabled"}, "", pipeline.time, check=True)
    assert outcome.code == 1
    assert "enclose_segments" in outcome.errors[-1]
    with pytest.raises(SettingsError, match="dry_run"):
        TargetDotdigital(config=dict(pipeline.target), parse_env_config=True)


def test_discover_refuses_a_switch_in_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"TAP_NOSTO_SEGMENTS_ALLOW_EMPTY_EXPORT": "enabled"}
    command = [str(BIN / "tap-nosto-segments"), "--config=ENV", "--discover"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "allow_empty_export" in done.stderr
    assert "Traceback" not in done.stderr


# Through Meltano


def test_meltano_hands_texts_on(sandbox: Sandbox, tmp_path: Path) -> None:
    project = Project(tmp_path, sandbox)
    project.environment |= {
        "TARGET_DOTDIGITAL_DRY_RUN": ' "true"',
        "TARGET_DOTDIGITAL_CONTACTS_PER_IMPORT": '"50"',
        "TARGET_DOTDIGITAL_EXCLUDE_EMAILS": '"VIP"',
        "TARGET_DOTDIGITAL_DRYRUN": "secret-value",
        "TAP_NOSTO_SEGMENTS_SEGMENTS": "['A', 'B']",
    }
    text = project.meltano("invoke", "--dump=config", "target-dotdigital")
    config = json.loads(text)
    assert (config["dry_run"], config["contacts_per_import"], config["exclude_emails"]) == (' "true"', '"50"', '"VIP"')
    read = target_environment.read_settings(
        {**config, "exclude_emails": []}, TargetDotdigital.config_jsonschema, from_environment=False
    )
    assert (read["dry_run"], read["contacts_per_import"]) == (True, 50)
    project.meltano("invoke", "target-dotdigital:check", code=1)
    assert "exclude_emails (TARGET_DOTDIGITAL_EXCLUDE_EMAILS) is not a list" in project.said
    assert "secret-value" not in project.said


@pytest.mark.slow
def test_a_run_through_meltano_reads_switches_lists_and_numbers_of_its_own_file(sandbox: Sandbox, tmp_path: Path) -> None:
    project = Project(tmp_path, sandbox)
    project.environment["TARGET_DOTDIGITAL_DRYRUN"] = "true"

    def edit(file: dict[str, Any]) -> None:
        file["plugins"]["extractors"][0]["config"] = {"segments": ["A", "it's B"], "allow_empty_export": "yes"}
        file["plugins"]["loaders"][0]["config"] = {"dry_run": "on", "exclude_emails": ["x@*"], "max_clear_percent": 30}

    project.change(edit)
    pipeline = Pipeline(sandbox, tmp_path)
    pipeline.export(b'{"email": "a@example.com", "segments": ["A", "it\'s B", "C"]}\n')
    said = project.sync(code=1)
    assert (project.report["outcome"], project.report["dry_run"]) == ("not activated", True)
    assert "did you mean TARGET_DOTDIGITAL_DRY_RUN?" in said
    assert set(project.report["segments"]) == {"A", "it's B"}
    # commands read the same from the environment that Meltano makes
    assert "OK: " in project.meltano("invoke", "tap-nosto-segments:check")
    assert "OK: " in project.meltano("invoke", "target-dotdigital:check")
    project.environment["TARGET_DOTDIGITAL_DRY_RUN"] = "enabled"
    said = project.sync(code=1)
    assert "dry_run (TARGET_DOTDIGITAL_DRY_RUN) is not true or false" in said
    assert "Traceback" not in said
    assert sandbox.journal.writes() == []


def test_no_switch_of_the_definitions_is_read_by_meltano() -> None:
    for path in ("meltano.yml", "tap-nosto-segments/meltanohub.yml", "target-dotdigital/meltanohub.yml"):
        text = (ROOT / path).read_text()
        assert not [kind for kind in ("boolean", "integer", "array") if f"kind: {kind}" in text], path
