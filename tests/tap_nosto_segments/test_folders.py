"""Folders: an existing one keeps its mode, files that a killed run left behind are deleted, and a path may hold any character."""

from __future__ import annotations

import datetime
import fcntl
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from support.cases import slow_except
from support.running import START, run_tap

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
TOKEN = "0123456789abcdef"
ORPHANS = [f".000001-{TOKEN}.parquet.part", f".000001-{TOKEN}.json.part", f"000002-{TOKEN}.parquet", f"1234567-{TOKEN}.parquet"]
OTHERS = [".gitignore", "notes.parquet", "000003-short.parquet", f"000004-{TOKEN}.csv", ".hidden.part", f"000005-{TOKEN}.json"]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("existing", [0o755, 0o777, 0o2770])
def test_an_existing_folder_keeps_its_mode(local: dict[str, Any], existing: int) -> None:
    folder = Path(local["snapshot_uri"])
    folder.mkdir()
    folder.chmod(existing)
    assert run_tap(local).code == 0
    assert mode(folder) == existing
    assert {mode(path) for path in folder.iterdir()} == {0o600}


def test_new_folders_are_private(local: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "snapshots"
    assert run_tap({**local, "snapshot_uri": str(folder)}).code == 0
    assert (mode(folder), mode(folder.parent)) == (0o700, 0o700)


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
        assert mode(place / "snapshots") == 0o777
        assert [path.stat().st_uid for path in (place / "snapshots").iterdir()] == [NOBODY] * 2


def test_files_that_a_killed_run_left_behind_are_deleted(local: dict[str, Any]) -> None:
    state = run_tap(local).bookmark
    folder = Path(local["snapshot_uri"])
    complete = set(folder.iterdir())
    for name in [*ORPHANS, *OTHERS]:
        (folder / name).touch()
    outcome = run_tap(local, state)
    assert outcome.code == 0
    assert set(folder.iterdir()) == complete | {folder / name for name in OTHERS}
    assert f"{len(ORPHANS)} files that a killed run left behind deleted" in outcome.log


def test_they_are_deleted_on_a_day_on_which_the_run_stops(local: dict[str, Any]) -> None:
    folder = Path(local["snapshot_uri"])
    folder.mkdir()
    (folder / ORPHANS[0]).touch()
    assert run_tap({**local, "segments": ["none"]}).code == 1
    assert list(folder.iterdir()) == []


def test_files_that_another_run_is_writing_stay(local: dict[str, Any]) -> None:
    folder = Path(local["snapshot_uri"])
    folder.mkdir()
    with (folder / ORPHANS[0]).open("w") as part, (folder / ORPHANS[2]).open("w") as parquet:
        fcntl.flock(part, fcntl.LOCK_EX)
        fcntl.flock(parquet, fcntl.LOCK_EX)
        assert run_tap(local).code == 0
    assert (folder / ORPHANS[0]).exists()
    assert (folder / ORPHANS[2]).exists()
    assert run_tap(local).code == 0
    assert not (folder / ORPHANS[0]).exists()
    assert not (folder / ORPHANS[2]).exists()


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


@pytest.mark.parametrize(
    "name",
    slow_except(
        {"a b", "a?b", "[x]", "a::b"},
        ["a b", "a?b", "a#b", "a%20b", "it's", 'say "hi"', "[x]", "a*b", "a::b", "{a}", "$HOME", "ä;b", "-x", "a&b=c", "a,b"],
    ),
)
def test_a_path_may_hold_any_character(local: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / name
    (folder / "tmp").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    export = folder / "export.jsonl"
    batches = {"encoding": {"format": "jsonl"}, "storage": {"root": str(folder / "files")}}
    for uri in (str(folder / "snapshots"), f"{name}/relative"):
        monkeypatch.chdir(tmp_path)
        config = {**local, "export_url": str(export), "snapshot_uri": uri}
        export.write_text('{"email":"a@example.com","seg":["A"]}\n{"email":"b@example.com","seg":["B"]}\n')
        os.utime(export, (START.timestamp(), START.timestamp()))
        first = run_tap(config)
        assert len(first.records()) == 2, first.log
        export.write_text('{"email":"a@example.com","seg":["A"]}\n')
        os.utime(export, (START.timestamp() + 60, START.timestamp() + 60))
        second = run_tap(config, first.bookmark)
        assert [record["email"] for record in second.records()] == ["b@example.com"], second.log
        assert run_tap({**config, "batch_config": batches}).code == 0
    assert len(list((folder / "snapshots").glob("*.parquet"))) == 2
    assert len(list((folder / "relative").glob("*.parquet"))) == 2
    assert len(list((folder / "files").glob("*.jsonl"))) == 2
