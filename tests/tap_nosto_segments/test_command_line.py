"""The command line: mistakes in it and in its files are one line that says what to correct, without output."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.running import captured, run_tap
from support.streams import catalog
from tap_nosto_segments import cli
from tap_nosto_segments.errors import InputError, SettingsError
from tap_nosto_segments.tap import TapNostoSegments

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.running import Outcome

CATALOG = catalog("contact_segments")


def assert_explained(outcome: Outcome, *words: str) -> None:
    assert (outcome.code, outcome.output) == (1, ""), outcome.log
    assert outcome.errors == [outcome.log.splitlines()[-1].removeprefix("ERROR ")]
    assert all(word in outcome.errors[0] for word in words), outcome.errors
    assert "defect" not in outcome.log
    assert "Traceback" not in outcome.log


STATES = [
    ("", "it is empty"),
    ('{"bookmarks', r"it is not JSON \(line 1, column 2\)"),
    ("[]", "not an object"),
    ("null", "not an object"),
    ("\xff", "it is not UTF-8 text"),
    ("[" * 100_000, "nested too deeply"),
    ('{"bookmarks": 5}', "bookmarks: Expected `object`, got `int`"),
    ('{"bookmarks": {"contact_segments": 5}}', "the bookmark of contact_segments: Expected `object`, got `int`"),
    ('{"bookmarks": {"contact_segments": {"snapshot": 5}}}', r"got `int` - at `\$.snapshot`"),
    ('{"bookmarks": {"contact_segments": {"partitions": [{"context": {}}]}}}', r"`\$.partitions`"),
    ('{"bookmarks": {"contact_segments": {"progress_markers": 5}}}', r"`\$.progress_markers`"),
    ('{"bookmarks": {"bookmarks": {"contact_segments": {}}}}', "none of this tap's streams"),
    ('{"contact_segments": {"snapshot": "1"}}', "it has no bookmarks"),
    ('{"singer_state": {"bookmarks": {}}}', "it has no bookmarks"),
]


def changed(**entry: object) -> str:
    return json.dumps({"streams": [{**CATALOG["streams"][0], **entry}]})


CATALOGS = [
    ("", "it is empty"),
    ("{", "it is not JSON"),
    ("[]", "not an object"),
    ("{}", "missing required field `streams`"),
    ('{"streams": 5}', r"`\$.streams`"),
    ('{"streams": [5]}', r"`\$.streams\[0\]`"),
    (changed(schema=5), r"`\$.streams\[0\].schema`"),
    (changed(schema={"properties": {"email": {"anyOf": 5}}}), "anyOf"),
    (changed(schema={"properties": {"segments": {"items": 5}}}), "it does not have the expected form"),
    (changed(metadata=5), r"`\$.streams\[0\].metadata`"),
    (changed(tap_stream_id="x\x1b[31m"), "this tap has no stream 'x'"),
    (changed(stream="people"), "it renames the stream contact_segments to 'people'"),
    (changed(replication_key="email"), "no replication key 'email'"),
    (changed(replication_method="LOG_BASED"), "cannot be replicated with the method 'LOG_BASED'"),
]


@pytest.mark.parametrize(
    ("read", "text", "problem"),
    [*((cli.read_state, *case) for case in STATES), *((cli.read_catalog, *case) for case in CATALOGS)],
)
def test_an_invalid_file_is_explained(read: Callable[[Any], object], text: str, problem: str) -> None:
    with io.TextIOWrapper(io.BytesIO(text.encode("latin-1"))) as file, pytest.raises(InputError, match=problem):
        read(file)


def test_an_empty_state_is_a_first_run(local: dict[str, object]) -> None:
    assert run_tap(local, {}).lines[0]["type"] == "SCHEMA"
    assert run_tap(local, {"bookmarks": {}}).code == 0


def test_a_catalog_may_omit_the_replication_key_but_not_every_stream(local: dict[str, object]) -> None:
    entry = {**CATALOG["streams"][0], "replication_key": None, "metadata": [{"breadcrumb": [], "metadata": {"selected": True}}]}
    state = run_tap(local, None, {"streams": [entry]}).bookmark
    assert state == run_tap(local).bookmark
    assert run_tap(local, state, {"streams": [entry]}).records() == []
    nothing = run_tap(local, None, {"streams": []})
    assert_explained(nothing, "selects no stream")
    assert isinstance(nothing.error, SettingsError)


def test_an_unreadable_config_file_is_explained(command: Callable[..., Outcome], tmp_path: Path) -> None:
    assert_explained(command("--config", "nothing.json", "check"), "nothing.json (--config)", "FileNotFoundError")
    (tmp_path / "broken.json").write_text('{"export')
    assert_explained(command("--config", "broken.json", "--discover"), "broken.json (--config)", "it is not JSON")


def test_several_config_files_are_merged_and_a_subcommand_takes_them_from_both_places(
    command: Callable[..., Outcome], config_file: Callable[..., Path], local: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "second.json").write_text(json.dumps({"segments": ["VIP"]}))
    outcome = command("--config", config_file(local), "check", "--config", "second.json", "--find", "b@EXAMPLE.com")
    assert outcome.code == 0, outcome.log
    assert "1 chosen by segments" in outcome.output
    assert "'Loyal Customers', 'VIP'" in outcome.output


def test_missing_settings_are_listed(command: Callable[..., Outcome]) -> None:
    assert_explained(command(), "export_url (TAP_NOSTO_SEGMENTS_EXPORT_URL) is not set")
    discovered = command("--discover")
    assert len(json.loads(discovered.output)["streams"]) == 3
    assert discovered.log == "WARNING Not set, and needed by a run: export_url (TAP_NOSTO_SEGMENTS_EXPORT_URL)"


def test_invalid_settings_are_explained_without_secrets() -> None:
    outcome = run_tap({"export_url": "x", "segmets": ["A"], "export_token": 123456789, "max_shrink_percent": 200})
    assert_explained(outcome, "'segmets' was unexpected", "export_token is not valid", "200 is greater than the maximum")
    assert "123456789" not in outcome.log


def test_settings_from_the_environment_do_not_precede_the_answer(command: Callable[..., Outcome], local: dict[str, Any]) -> None:
    environment = {
        "TAP_NOSTO_SEGMENTS_EXPORT_URL": local["export_url"],
        "TAP_NOSTO_SEGMENTS_SNAPSHOT_URI": local["snapshot_uri"],
        "TAP_NOSTO_SEGMENTS_SEGMENTS": '["*", "VIP"]',
    }
    checked = command("check", "--config=ENV", environment=environment)
    assert (checked.code, checked.log) == (0, "")
    assert checked.output.startswith("Export\n")
    # a name may contain a comma, so a list needs brackets
    refused = command("--config=ENV", "--discover", environment=environment | {"TAP_NOSTO_SEGMENTS_SEGMENTS": "VIP,B"})
    assert_explained(refused, "TAP_NOSTO_SEGMENTS_SEGMENTS")


def test_help_of_each_command_is_its_own_page() -> None:
    group = cli.create_command()
    pages = {}
    for name in ("", "check", "try-auth"):
        with captured() as (output, _):
            group.main([*([name] if name else []), "--help"], standalone_mode=False)
        pages[name] = output.getvalue()
    assert all(word in pages[""] for word in ("check", "try-auth", "--about", "--state"))
    assert all(word in pages["check"] for word in ("--find EMAIL", "--state", "--catalog", "--config"))
    assert "--state" not in pages["try-auth"]


def test_the_singer_options_answer(
    command: Callable[..., Outcome], config_file: Callable[..., Path], local: dict[str, Any]
) -> None:
    version = command("--version")
    assert (version.code, version.log, version.output.partition(" v")[0]) == (0, "", "tap-nosto-segments")
    assert json.loads(command("--about", "--format=json").output)["name"] == "tap-nosto-segments"
    path = config_file(local)
    tested = command("--config", path, "--test")
    assert (tested.code, {line["stream"] for line in tested.lines if line["type"] == "RECORD"}) == (
        0,
        {"contact_segments", "segment_changes", "segments"},
    )
    schema = command("--config", path, "--test=schema")
    assert (schema.code, [line["type"] for line in schema.lines]) == (0, ["SCHEMA"] * 3)
    assert_explained(command("--config", config_file({**local, "export_url": "nothing"}), "--test"), "export_url")


def test_a_defect_is_reported_with_its_trace_and_without_data(local: dict[str, Any]) -> None:
    class Broken(TapNostoSegments):
        """A tap with a defect: its clock fails."""

        @staticmethod
        def now() -> Any:
            """Fail."""
            msg = "secret@example.com"
            raise LookupError(msg)

    with captured() as (output, log), pytest.raises(SystemExit):
        cli.sync(cli.Config({**local, "max_export_age_hours": 9}), tap_class=Broken)
    line = log.getvalue().splitlines()[-1]
    assert line.startswith("ERROR Unexpected LookupError (tap_nosto_segments/cli.py:")
    places = ["cli.py", "tap.py", "extraction.py", "test_command_line.py"]
    assert [line.index(place) for place in places] == sorted(line.index(place) for place in places)
    assert "secret@example.com" not in log.getvalue()
    assert output.getvalue() == ""


def test_output_is_utf8_whatever_the_locale(
    command: Callable[..., Outcome], config_file: Callable[..., Path], local: dict[str, Any], tmp_path: Path
) -> None:
    Path(local["export_url"]).write_text('{"email":"ä@example.com","seg":["Café 漢字","Loyal"]}\n', encoding="utf-8")
    path = config_file({**local, "segments": ["*", "Ünknown"]})
    described = tmp_path / "catalog.json"
    described.write_text(json.dumps(CATALOG, ensure_ascii=False).replace("Address", "Adresse é"), encoding="utf-8")
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    outcome = command("--config", path, "--catalog", described, environment=environment)
    assert outcome.code == 0, outcome.log
    assert [(record["email"], record["segments"]) for record in outcome.records()] == [("ä@example.com", ["Café 漢字", "Loyal"])]
    # nor does the log line with the pattern end the run
    assert "nknown' in segments matches no segment" in outcome.log
    assert "Logging error" not in outcome.log
