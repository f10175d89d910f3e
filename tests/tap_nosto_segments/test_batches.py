"""BATCH messages: files of records that say what RECORD messages would say, private, and deleted by the next run."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import fsspec
import pytest
from nosto_dotdigital_sandbox import Sandbox, Shop
from support.oracle import assert_account, expected
from support.running import START, Outcome, Pipeline, run_tap
from support.storage import keys, object_storage
from tap_nosto_segments.tap import TapNostoSegments

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.running import FakeTime

STREAMS = ("contact_segments", "segment_changes", "segments")
# a file holds at most this many records
FILE = 10_000
FIGURES = ("outcome", "read", "distinct", "duplicates", "removed", "created", "updated", "rejected", "unconfirmed")


def batches(root: Path | str, compression: str | None = "gzip", **storage: str) -> dict[str, Any]:
    """Return the setting for a folder or a URL."""
    url = root.as_uri() if isinstance(root, Path) else root
    encoding = {"format": "jsonl", **({"compression": compression} if compression else {})}
    return {"batch_config": {"encoding": encoding, "storage": {"root": url, **storage}}}


def local_path(url: str) -> Path:
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc) == ("file", "")
    return Path(unquote(parts.path))


def read_file(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the one file of a BATCH message, as any other target might."""
    (url,) = message["manifest"]
    content = local_path(url).read_bytes()
    assert url.endswith(".jsonl.gz" if message["encoding"]["compression"] == "gzip" else ".jsonl")
    if message["encoding"]["compression"] == "gzip":
        content = gzip.decompress(content)
    assert content.endswith(b"\n")
    return [json.loads(line) for line in content.decode().split("\n")[:-1]]


def unpacked(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the messages, each record of a file as the RECORD message that it stands for, without what differs between two runs."""
    found: list[dict[str, Any]] = []
    for line in outcome.lines:
        if "version" in line:
            line["version"] = 0
        if line["type"] == "BATCH":
            version = {name: line[name] for name in ("version",) if name in line}
            found += [{"type": "RECORD", "stream": line["stream"], "record": record, **version} for record in read_file(line)]
        else:
            line.pop("time_extracted", None)
            found.append(line)
    return found


def sorted_records(messages: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(message) for message in messages if message["type"] == "RECORD")


def others(messages: list[dict[str, Any]]) -> list[list[str]]:
    """Return the types of the messages in order, with one entry for the records between two others. Their order is not defined."""
    found: list[list[str]] = []
    for is_record, group in itertools.groupby(messages, lambda message: message["type"] == "RECORD"):
        names = [f"{message['type']} {message.get('stream', '')}" for message in group]
        found.append(sorted(set(names)) if is_record else names)
    return found


def kinds(outcome: Outcome) -> list[str]:
    return [line["type"] for line in outcome.lines]


def selecting(*names: str, without: str = "") -> dict[str, Any]:
    made: dict[str, Any] = TapNostoSegments(config={}, validate_config=False, setup_mapper=False).catalog_dict
    for entry in made["streams"]:
        for item in entry["metadata"]:
            if not item["breadcrumb"]:
                item["metadata"]["selected"] = entry["tap_stream_id"] in names
            elif item["breadcrumb"][-1] == without:
                item["metadata"]["selected"] = False
    return made


def write(config: dict[str, object], count: int, name: str = "VIP", minute: int | None = None) -> None:
    """Write an export; its age is that of the file."""
    lines = ({"email": f"{number}é@example.com", "seg": [name, 'q"\\\n']} for number in range(count))
    Path(str(config["export_url"])).write_text("".join(json.dumps(line) + "\n" for line in lines))
    if minute is not None:
        moment = START.timestamp() + 60 * minute
        os.utime(str(config["export_url"]), (moment, moment))


def rows(sandbox: Sandbox) -> list[str]:
    """Return every row that was sent, in an order that depends on its content alone."""
    sent = [row for call in sandbox.journal.imports() for row in call.json()["contacts"]]
    return sorted(json.dumps(row, sort_keys=True) for row in sent)


@pytest.mark.parametrize("compression", ["gzip", "none", None])
def test_days_in_files_equal_days_in_records(pipeline: Pipeline, time: FakeTime, tmp_path: Path, compression: str | None) -> None:
    folder = tmp_path / "batch files, 100%41"
    in_files = batches(folder, compression)
    pipeline.tap |= in_files
    pipeline.target |= in_files
    with Sandbox(clock=time.now, wall=time.wall) as second:
        (tmp_path / "plain").mkdir()
        plain = Pipeline(second, tmp_path / "plain", time)
        plain.activate()
        second.journal.clear()
        before: dict[str, list[str]] = {}
        shop = Shop(400, vanish_per_mille=20, change_per_mille=50)
        for day, whole in ((0, False), (2, False), (3, True)):
            body = shop.export(day)
            outcomes: list[tuple[object, ...]] = []
            for one in (pipeline, plain):
                one.export(body, day)
                one.state = None if whole else one.state
                extracted = one.extract()
                assert extracted.code == 0, extracted.log
                assert ("RECORD" in kinds(extracted)) == (one is plain)
                encodings = [line["encoding"] for line in extracted.lines if line["type"] == "BATCH"]
                assert encodings == ([] if one is plain else [{"format": "jsonl", "compression": compression or "none"}])
                assert one.load(extracted.output).code == 0
                messages = unpacked(extracted)
                figures = {name: one.report.get(name) for name in FIGURES}
                outcomes.append((sorted_records(messages), others(messages), figures, rows(one.sandbox)))
            assert outcomes[0] == outcomes[1]
            now = expected(body)
            gone = sorted(set(before) - set(now))
            assert bool(gone) == (day > 0)
            before |= now
            assert_account(pipeline.sandbox, now, gone=gone)
            assert_account(second, now, gone=gone)


def test_files_come_before_what_depends_on_them(local: dict[str, object], tmp_path: Path) -> None:
    """A version is activated, and a STATE written, when every file is named."""
    config = local | batches(tmp_path / "files")
    write(config, 2 * FILE + 1)
    first = run_tap(config)
    assert kinds(first) == ["SCHEMA", "BATCH", "BATCH", "BATCH", "ACTIVATE_VERSION", "STATE"]
    files = [line for line in first.lines if line["type"] == "BATCH"]
    assert sorted(len(read_file(line)) for line in files) == [1, FILE, FILE]
    assert {line["version"] for line in files} == {line["version"] for line in first.lines if line["type"] == "ACTIVATE_VERSION"}
    write(config, 2 * FILE)
    second = run_tap(config, first.bookmark)
    assert kinds(second) == ["STATE", "SCHEMA", "BATCH", "STATE"]
    assert second.lines[0]["value"] == first.bookmark
    (file,) = (line for line in second.lines if line["type"] == "BATCH")
    assert file.keys() == {"type", "stream", "encoding", "manifest"}
    (removed,) = read_file(file)
    assert removed["_sdc_deleted_at"] is not None
    # nothing new: no file, and no message that names one
    third = run_tap(config, second.bookmark)
    assert "BATCH" not in kinds(third)
    # a day on which only deselected segments changed has no file either
    narrow = config | {"segments": ["VIP"], "snapshot_uri": str(tmp_path / "narrow")}
    fourth = run_tap(narrow)
    Path(str(config["export_url"])).write_text(Path(str(config["export_url"])).read_text().replace('q\\"', "other"))
    assert "BATCH" not in kinds(run_tap(narrow, fourth.bookmark))


def test_counts_are_logged_and_measured(local: dict[str, object], tmp_path: Path) -> None:
    for config in (local, local | {"stream_maps": {"contact_segments": {}}}):
        write(config, FILE + 1)
        log = run_tap(config | batches(tmp_path / "files")).log
        metrics = [json.loads(line.partition("METRIC: ")[2]) for line in log.splitlines() if "METRIC: " in line]
        counts = {one["metric"]: one["value"] for one in metrics if one["type"] == "counter"}
        assert counts == {"record_count": FILE + 1, "batch_count": 2}
        assert "contact_segments: 2 batch files written" in log


VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "one stream": ({}, None),
    "all streams": ({}, selecting(*STREAMS)),
    "the catalogue alone": ({}, selecting("segments")),
    "a property deselected": ({}, selecting(*STREAMS, without="segments")),
    "a map": ({"stream_maps": {"contact_segments": {"email": "md5(email)", "added": "1", "segments": None}}}, None),
    "a filter": ({"stream_maps": {"segment_changes": {"__filter__": "email.startswith('1')"}}}, selecting("segment_changes")),
    "a filter that leaves nothing": (
        {"stream_maps": {"segment_changes": {"__filter__": "email == ''"}}},
        selecting("segment_changes"),
    ),
    "another name": ({"stream_maps": {"contact_segments": {"__alias__": "'people/of the shop'"}}}, None),
    "a stream twice": (
        {"stream_maps": {"contact_segments": {}, "copy": {"__source__": "contact_segments", "email": "email[::-1]"}}},
        None,
    ),
    "a stream removed": ({"stream_maps": {"segments": None}}, selecting(*STREAMS)),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_files_hold_the_records_of_the_messages(local: dict[str, object], tmp_path: Path, variant: str) -> None:
    settings, catalog = VARIANTS[variant]
    found = []
    for name, more in (("plain", {}), ("files", batches(tmp_path / "files"))):
        config = local | settings | more | {"snapshot_uri": str(tmp_path / name)}
        write(config, 30, minute=0)
        first = run_tap(config, None, copy.deepcopy(catalog))
        found.append(unpacked(first))
        write(config, 20, "Y", minute=1)
        second = run_tap(config, first.bookmark, copy.deepcopy(catalog))
        found.append(unpacked(second))
        assert (first.code, second.code) == (0, 0), first.log + second.log
        assert ("RECORD" in kinds(first)) == (not more and variant != "a filter that leaves nothing")
    plain, files = found[:2], found[2:]
    for one, other in zip(plain, files, strict=True):
        assert sorted_records(one) == sorted_records(other)
        assert others(one) == others(other)
    assert variant == "a filter that leaves nothing" or sorted_records(plain[0]) != []


def test_interim_bookmarks_follow_the_files_of_their_records(local: dict[str, object], tmp_path: Path) -> None:
    config = local | batches(tmp_path / "files", "none") | {"stream_maps": {"segment_changes": {"__filter__": "email[0] != '1'"}}}
    write(config, FILE + 2_000)
    outcome = run_tap(config, None, selecting("segment_changes"))
    assert kinds(outcome)[:4] == ["SCHEMA", "BATCH", "STATE", "BATCH"]
    assert kinds(outcome)[-1] == "STATE"
    # after as many records as a file holds, some of which were left out; no bookmark stands for records that are not all there
    assert len(read_file(outcome.lines[1])) < FILE
    assert "snapshot" not in outcome.lines[2]["value"]["bookmarks"]["segment_changes"]


@pytest.mark.parametrize("off", [{}, {"batch_config": None}])
def test_without_the_setting_there_are_records(local: dict[str, object], off: dict[str, None]) -> None:
    outcome = run_tap(local | off)
    assert kinds(outcome) == ["SCHEMA", "RECORD", "RECORD", "ACTIVATE_VERSION", "STATE"]
    assert "batch" not in outcome.log.lower()


def test_a_test_of_the_connection_writes_no_files(
    local: dict[str, object], tmp_path: Path, command: Callable[..., Outcome]
) -> None:
    outcome = command(local | batches(tmp_path / "files"), "--test")
    assert outcome.code == 0, outcome.log
    assert "RECORD" in kinds(outcome)
    assert "BATCH" not in kinds(outcome)
    assert command(local | batches(tmp_path / "files"), "--check").code == 0
    assert not (tmp_path / "files").exists()


@pytest.mark.parametrize("where", ["absolute", "relative"])
def test_only_the_owner_can_read_the_files(
    local: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "new" / "folder"
    outcome = run_tap(local | batches("new/folder" if where == "relative" else folder, prefix="shop-"))
    (message,) = (line for line in outcome.lines if line["type"] == "BATCH")
    file = local_path(message["manifest"][0])
    assert file.parent == folder
    assert file.name.startswith("shop-")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)] == [0o700, 0o700]
    assert (folder / ".gitignore").read_text() == "*\n"
    assert sorted(path.name for path in folder.iterdir()) == sorted([".gitignore", file.name])


def test_a_folder_that_existed_stays_as_it_was(local: dict[str, object], tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    run_tap(local | batches(folder))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_run_deletes_the_files_of_the_one_before_and_no_others(local: dict[str, object], tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    config = local | batches(folder, prefix="a.")
    neighbour = config | {"snapshot_uri": str(tmp_path / "neighbour")}
    first = run_tap(config)
    other = {local_path(line["manifest"][0]) for line in run_tap(neighbour).lines if line["type"] == "BATCH"}
    (old,) = (local_path(line["manifest"][0]) for line in first.lines if line["type"] == "BATCH")
    foreign = {
        folder / name for name in (".gitignore", "mine.jsonl", f"{old.name}.part", f"x{old.name}", old.name.replace("a.", "ab"))
    }
    for path in foreign:
        path.write_text("*\n")
    # also where a run finds nothing to emit, or stops at a guard
    again = run_tap(config, first.bookmark)
    assert "BATCH" not in kinds(again)
    assert "1 of earlier runs deleted" in again.log
    assert set(folder.iterdir()) == foreign | other
    run_tap(config)
    Path(str(config["export_url"])).write_text("")
    assert run_tap(config).code == 1
    assert set(folder.iterdir()) == foreign | other


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (batches(Path("/dev/null/files")), "(NotADirectoryError), so nothing was fetched or emitted"),
        (batches(Path("/proc/files")), "so nothing was fetched or emitted"),
        # it is there, and nothing can be written to it
        (batches(Path("/proc")), "so nothing was fetched or emitted"),
        (batches("nosuchscheme://bucket"), "(ValueError), so nothing was fetched or emitted"),
        (batches("abfs://bucket/files"), "(ImportError), so nothing was fetched or emitted"),
        (batches(Path("/nowhere"), prefix="a/"), "['prefix']. Nothing was fetched"),
        (batches(Path("/nowhere"), "zip"), "'zip' is not one of ['gzip', 'none']"),
        ({"batch_config": {"encoding": {"format": "parquet"}, "storage": {"root": "x"}}}, "'parquet' is not one of ['jsonl']"),
        ({"batch_config": {"encoding": {"format": "jsonl"}}}, "'storage' is a required property"),
        ({"batch_config": {"encoding": {"format": "jsonl"}, "storage": {"root": ""}}}, "['root']. Nothing was fetched"),
        ({"batch_config": {"encoding": {"format": "jsonl"}, "storage": {"root": "x"}, "batch_size": 5}}, "'batch_size'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line(
    local: dict[str, object], tmp_path: Path, setting: dict[str, Any], words: str
) -> None:
    outcome = run_tap(local | setting)
    assert (outcome.code, outcome.output) == (1, "")
    (error,) = outcome.errors
    assert words in error
    assert not (tmp_path / "snapshots").exists(), "the export was fetched"


def test_a_folder_that_cannot_be_written_is_one_line(local: dict[str, object], tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.write_text("")
    outcome = run_tap(local | batches(folder))
    assert (outcome.code, outcome.output) == (1, "")
    (error,) = outcome.errors
    assert "The folder for batch files (storage.root of batch_config) cannot be used" in error
    assert not (tmp_path / "snapshots").exists()


def test_a_disk_that_fills_up_later_leaves_no_bookmark(
    local: dict[str, object], tmp_path: Path, command: Callable[..., Outcome]
) -> None:
    lines = (json.dumps({"email": f"{number}@example.com", "seg": []}) for number in range(FILE))
    Path(str(local["export_url"])).write_text("\n".join(lines) + "\n")
    config = local | batches(tmp_path / "files", "none")
    outcome = command(config, kilobytes=900)
    assert outcome.code == 1
    assert kinds(outcome) == ["SCHEMA"]
    (error,) = outcome.errors
    assert "A batch file cannot be written (OSError): the output is incomplete, and the bookmark stays" in error
    assert "@example.com" not in outcome.log
    # the part that was written goes with the next run
    assert command(config).code == 0
    assert len(list((tmp_path / "files").glob("*.jsonl"))) == 1


@pytest.mark.parametrize(("day", "last"), [(0, "BATCH"), (0, "ACTIVATE_VERSION"), (1, "BATCH")])
def test_a_run_that_ends_before_its_bookmark_is_completed_by_the_next(
    pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path, day: int, last: str
) -> None:
    in_files = batches(tmp_path / "files")
    pipeline.tap |= in_files
    pipeline.target |= in_files
    shop = Shop(300, vanish_per_mille=20, change_per_mille=50)
    was = expected(pipeline.export(shop.export(0)))
    if day:
        assert pipeline.run().code == 0
    before = pipeline.state
    now = expected(pipeline.export(shop.export(day), day))
    extracted = pipeline.extract()
    lines = extracted.output.splitlines(keepends=True)
    broken = pipeline.load("".join(lines[: kinds(extracted).index(last) + 1]))
    # a version that is activated proves that the input is whole
    assert (broken.code, pipeline.report["outcome"]) == ((1, "incomplete input") if last == "BATCH" else (0, "delivered"))
    assert pipeline.state == before
    assert pipeline.run().code == 0
    assert_account(sandbox, now, gone=sorted(set(was) - set(now)))
    # an output that was kept names files that are gone: it is refused, and changes nothing
    state = pipeline.state
    assert pipeline.load(extracted.output).code == 1
    assert pipeline.state == state
    assert_account(sandbox, now, gone=sorted(set(was) - set(now)))


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_files_in_object_storage(pipeline: Pipeline, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_storage(monkeypatch) as bucket:
        in_files = batches(f"{bucket}/shop", prefix="day-")
        pipeline.tap |= in_files
        pipeline.target |= in_files
        with fsspec.open(f"{bucket}/shop/mine.jsonl", "wb") as file:
            file.write(b"{}\n")
        before: dict[str, list[str]] = {}
        for day in (0, 2):
            now = expected(pipeline.export(Shop(300).export(day), day))
            extracted = pipeline.extract()
            assert extracted.code == 0, extracted.log
            (message,) = (line for line in extracted.lines if line["type"] == "BATCH")
            assert message["manifest"][0].startswith(f"{bucket}/shop/day-")
            assert pipeline.load(extracted.output).code == 0
            assert_account(sandbox, now, gone=sorted(set(before) - set(now)))
            before = now
            # those of the day before are gone
            assert len(keys(bucket)) == len(["mine", "today"])
        assert run_tap(pipeline.tap | batches(f"{bucket}x/shop")).output == ""
