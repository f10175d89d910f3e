"""Folders, disks and memory: private files, files that a killed run left behind, any path, object storage, and a lack of space."""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import random
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import fsspec
import pytest
from nosto_dotdigital_sandbox import Shop
from support.cases import slow_except
from support.oracle import assert_account, expected
from support.running import BIN, START, run_tap
from support.storage import keys, object_storage
from tap_nosto_segments.errors import SnapshotError, storage_error
from tap_nosto_segments.snapshots import database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.running import Outcome, Pipeline

NOBODY = 65534
TOKEN = "0123456789abcdef"
ORPHANS = [f".000001-{TOKEN}.parquet.part", f".000001-{TOKEN}.json.part", f"000002-{TOKEN}.parquet", f"1234567-{TOKEN}.parquet"]
OTHERS = [".gitignore", "notes.parquet", "000003-short.parquet", f"000004-{TOKEN}.csv", ".hidden.part", f"000005-{TOKEN}.json"]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_existing_folder_keeps_its_mode_and_content(local: dict[str, Any]) -> None:
    folder = Path(local["snapshot_uri"])
    folder.mkdir()
    folder.chmod(0o2770)
    assert run_tap(local).code == 0
    assert mode(folder) == 0o2770
    assert {(path.suffix, mode(path)) for path in folder.iterdir()} == {(".parquet", 0o600), (".json", 0o600)}


def test_new_folders_are_private_and_stay_out_of_version_control(local: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "snapshots"
    assert run_tap({**local, "snapshot_uri": str(folder)}).code == 0
    assert (mode(folder), mode(folder.parent)) == (0o700, 0o700)
    assert (folder / ".gitignore").read_text() == "*\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_the_folder_may_belong_to_another_user(local: dict[str, Any]) -> None:
    state = run_tap(local).bookmark  # imports what this process needs
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "snapshots").mkdir()
        (place / "snapshots").chmod(0o777)
        (place / "export.jsonl").write_bytes(Path(local["export_url"]).read_bytes())
        (place / "export.jsonl").chmod(0o644)
        settings = {**local, "export_url": str(place / "export.jsonl"), "snapshot_uri": str(place / "snapshots")}
        os.seteuid(NOBODY)
        try:
            outcome = run_tap(settings, state)
        finally:
            os.seteuid(0)
        assert outcome.code == 0, outcome.log
        assert [path.stat().st_uid for path in (place / "snapshots").iterdir()] == [NOBODY] * 2


def test_files_that_a_killed_run_left_behind_are_deleted_even_if_the_run_stops(local: dict[str, Any]) -> None:
    assert run_tap(local).code == 0
    folder = Path(local["snapshot_uri"])
    complete = set(folder.iterdir())
    for name in [*ORPHANS, *OTHERS]:
        (folder / name).touch()
    outcome = run_tap({**local, "segments": ["none"]})
    assert outcome.code == 1
    assert set(folder.iterdir()) == complete | {folder / name for name in OTHERS}
    assert f"{len(ORPHANS)} files that a killed run left behind deleted" in outcome.log


def test_files_that_another_run_is_writing_stay(local: dict[str, Any]) -> None:
    folder = Path(local["snapshot_uri"])
    folder.mkdir()
    written = [folder / ORPHANS[0], folder / ORPHANS[2]]
    with written[0].open("w") as part, written[1].open("w") as parquet:
        fcntl.flock(part, fcntl.LOCK_EX)
        fcntl.flock(parquet, fcntl.LOCK_EX)
        assert run_tap(local).code == 0
    assert [path.exists() for path in written] == [True, True]
    assert run_tap(local).code == 0
    assert [path.exists() for path in written] == [False, False]


def test_the_working_folder_is_deleted_however_the_run_ends(
    local: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    assert run_tap(local).code == 0
    assert run_tap({**local, "segments": ["none"]}).code == 1
    assert run_tap({**local, "stream_maps": {"contact_segments": {"x": "1 / 0"}}}).code == 1
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.fixture
def memory() -> Iterator[str]:
    """Return the URL of a folder in fsspec's file system in memory."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield "memory://snapshots"
    files.store.clear()


def test_in_object_storage_only_files_of_another_day_are_deleted(local: dict[str, Any], memory: str) -> None:
    local["snapshot_uri"] = memory
    files = fsspec.filesystem("memory")
    orphan = f"/snapshots/{ORPHANS[2]}"
    files.pipe_file(orphan, b"x")
    now = datetime.datetime.now(datetime.UTC)
    assert run_tap(local, moment=now).code == 0
    assert files.exists(orphan)
    assert run_tap(local, moment=now + datetime.timedelta(days=2)).code == 0
    assert not files.exists(orphan)
    assert len(files.ls("/snapshots")) == 2


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_two_runs_on_two_fresh_machines(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """With snapshots on an S3-compatible server on loopback."""
    with object_storage(monkeypatch) as bucket:
        pipeline.tap["snapshot_uri"] = f"{bucket}/shop"
        gone: list[str] = []
        before: dict[str, list[str]] = {}
        for day in range(3):
            now = expected(pipeline.export(Shop(300).export(day), day))
            gone = sorted((set(gone) | set(before)) - set(now))
            extracted = pipeline.extract()
            assert extracted.code == 0, extracted.log
            assert day == 0 or len(extracted.records()) < 30
            assert pipeline.load(extracted.output).code == 0
            assert_account(pipeline.sandbox, now, gone=gone)
            before = now
        assert len(keys(bucket)) == 4
    assert not (pipeline.folder / "snapshots").exists()


@pytest.mark.parametrize(
    "name",
    slow_except(
        {"a?b", "[x]", "a::b"},
        ["a b", "a?b", "a#b", "a%20b", "it's", 'say "hi"', "[x]", "a*b", "a::b", "{a}", "$HOME", "ä;b", "-x", "a&b=c", "a,b"],
    ),
)
def test_a_path_may_hold_any_character(local: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / name
    (folder / "tmp").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    monkeypatch.chdir(tmp_path)
    export = folder / "export.jsonl"
    for uri in (str(folder / "snapshots"), f"{name}/relative"):
        config = {**local, "export_url": str(export), "snapshot_uri": uri}
        export.write_text('{"email":"a@example.com","seg":["A"]}\n{"email":"b@example.com","seg":["B"]}\n')
        os.utime(export, (START.timestamp(), START.timestamp()))
        first = run_tap(config)
        assert len(first.records()) == 2, first.log
        export.write_text('{"email":"a@example.com","seg":["A"]}\n')
        os.utime(export, (START.timestamp() + 60, START.timestamp() + 60))
        second = run_tap(config, first.bookmark)
        assert [record["email"] for record in second.records()] == ["b@example.com"], second.log
    assert len(list((folder / "snapshots").glob("*.parquet"))) == 2
    assert len(list((folder / "relative").glob("*.parquet"))) == 2


def test_an_absurd_modification_time_counts_as_unknown(local: dict[str, Any]) -> None:
    # other file systems cannot store such times
    with tempfile.NamedTemporaryFile(dir="/dev/shm", suffix=".jsonl") as file:
        file.write(Path(local["export_url"]).read_bytes())
        file.flush()
        for stamp in (253402300800 - 3600, 2**40, -(2**40)):
            os.utime(file.name, (stamp, stamp))
            outcome = run_tap({**local, "export_url": file.name})
            assert outcome.code == 0, outcome.log
            assert "made at an unknown time" in outcome.log


def assert_no_room(outcome: Outcome, action: str) -> None:
    assert outcome.code == 1
    assert len(outcome.errors) == 1, outcome.log
    assert f"The export could not be {action}" in outcome.errors[0]
    assert "probably the disk for temporary files is full" in outcome.errors[0]
    assert "Traceback" not in outcome.log


def contacts(count: int, host: str, *, numbers: random.Random | None = None) -> str:
    names = (numbers.getrandbits(128) if numbers else number for number in range(count))
    return "".join(f'{{"email":"{name:032x}@{host}","seg":["A"]}}\n' for name in names)


@pytest.mark.parametrize(
    ("base", "kilobytes", "error"),
    [
        # the Parquet file is too large
        (contacts(20_000, "example.com", numbers=random.Random(1)), 256, "OSError"),
        # the Parquet file is small, because its addresses are similar, but the table of removed contacts is too large
        (contacts(60_000, "example.com"), 1_400, "TransactionException"),
    ],
    ids=["fetched", "compared"],
)
def test_a_full_disk_during_the_comparison_is_explained(
    command: Callable[..., Outcome],
    config_file: Callable[..., Path],
    local: dict[str, Any],
    tmp_path: Path,
    base: str,
    kilobytes: int,
    error: str,
) -> None:
    export, state = tmp_path / "export.jsonl", tmp_path / "state.json"
    export.write_text(base)
    first = run_tap(local)
    state.write_text(json.dumps(first.bookmark))
    export.write_text(contacts(1_000, "example.org"))
    local["max_shrink_percent"] = 100
    outcome = command("--config", config_file(local), "--state", state, kilobytes=kilobytes)
    assert_no_room(outcome, f"compared ({error})")
    assert outcome.output == ""
    # the next run succeeds
    assert run_tap(local, first.bookmark).code == 0


@pytest.mark.parametrize(("limit", "action"), [("8MB", "stored"), ("1MB", "read back")])
def test_too_little_memory_is_explained(local: dict[str, Any], monkeypatch: pytest.MonkeyPatch, limit: str, action: str) -> None:
    Shop(5_000).write(Path(local["export_url"]), 0)
    if action == "read back":
        assert run_tap(local).code == 0
    monkeypatch.setattr(database, "MEMORY_LIMIT", limit)
    outcome = run_tap(local)
    assert_no_room(outcome, action)
    assert "STATE" not in [line["type"] for line in outcome.lines]
    assert (outcome.output == "") == (action == "stored")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "x"), "probably the disk"),
        (OSError(errno.EACCES, "x"), "Permission denied"),
        (duckdb.IOException("IO Error: No space left on device"), "probably the disk"),
        (duckdb.IOException("IO Error: Input/output error"), "Input/output error"),
        (duckdb.OutOfMemoryException("failed to allocate"), "probably the disk"),
    ],
)
def test_each_failure_of_the_disk_has_its_own_cause(error: Exception, reason: str) -> None:
    assert reason in str(storage_error(error, action="stored"))


@pytest.mark.parametrize("place", ["nothing", "file"])
def test_an_unusable_folder_for_temporary_files_is_explained(
    local: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / place))
    outcome = run_tap(local)
    assert (outcome.code, outcome.output, type(outcome.error)) == (1, "", SnapshotError), outcome.log
    assert "TMPDIR" in outcome.errors[0]
    assert "full" not in outcome.errors[0]


@pytest.mark.parametrize(
    ("device", "how", "words"),
    [("/dev/full", "wb", b"could not be written out (OSError)"), ("/dev/null", "rb", b"'Bad file descriptor'")],
)
def test_standard_output_that_cannot_be_written_is_the_last_line(
    config_file: Callable[..., Path], local: dict[str, Any], device: str, how: str, words: bytes
) -> None:
    arguments = [str(BIN / "tap-nosto-segments"), "--config", str(config_file(local))]
    with Path(device).open(how) as output:
        done = subprocess.run(arguments, stdout=output, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]
    assert b"Traceback" not in done.stderr
    assert b"a defect" not in done.stderr
