"""BATCH messages: files of records, held to the same checks as RECORD messages, and read from one folder alone."""

from __future__ import annotations

import gzip
import json
import os
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from support.running import Outcome, Pipeline, singer
from support.storage import object_storage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox

STREAM = "people"
PEOPLE: list[dict[str, Any]] = [
    {"email": "ann@example.com", "segments": ["A", "B"]},
    {"email": "Bob@Example.com ", "segments": "A|C", "more": 1},
    {"email": "no address", "segments": ["A"]},
    {"email": "cleo@example.com", "segments": None},
    {"email": "ann@example.com", "segments": ["C"]},
    {"email": "dan@example.com", "segments": ["A"], "_sdc_deleted_at": "2026-11-01T00:00:00Z"},
    {"email": "eve@example.com", "segments": [], "_sdc_deleted_at": None},
]
FIGURES = ("read", "distinct", "duplicates", "invalid")


def batch(*urls: str, compression: str | None = None, **more: object) -> str:
    """Write an input whose records are in files."""
    schema, *_, state = singer(PEOPLE, STREAM).splitlines()
    encoding = {"format": "jsonl", **({"compression": compression} if compression else {})}
    message = {"type": "BATCH", "stream": STREAM, "encoding": encoding, "manifest": list(urls), **more}
    return "\n".join([schema, json.dumps(message), state, ""])


def packed(records: list[dict[str, Any]] = PEOPLE) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


@pytest.fixture
def folder(pipeline: Pipeline, tmp_path: Path) -> Path:
    """The folder from which the target may read."""
    root = tmp_path / "batches of the tap"
    root.mkdir()
    pipeline.target["batch_config"] = {"encoding": {"format": "jsonl"}, "storage": {"root": root.as_uri()}}
    return root


def delivered(pipeline: Pipeline, sandbox: Sandbox, outcome: Outcome) -> tuple[object, ...]:
    assert outcome.code == 0, outcome.log
    account = {email: (contact.data_fields, contact.lists) for email, contact in sandbox.account.snapshot().items()}
    return account, {name: pipeline.report.get(name) for name in FIGURES}


@pytest.mark.parametrize("maps", [{}, {STREAM: {"added": "'x'"}}])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_records_in_files_are_records(pipeline: Pipeline, sandbox: Sandbox, folder: Path, maps: Any, compression: Any) -> None:
    pipeline.target["stream_maps"] = maps
    first, second = (folder / f"{number}.jsonl" for number in (1, 2))
    pack: Callable[[bytes], bytes] = gzip.compress if compression else bytes
    first.write_bytes(pack(packed(PEOPLE[:3])))
    second.write_bytes(pack(packed(PEOPLE[3:])))
    outcome = pipeline.load(batch(first.as_uri(), str(second), compression=compression))
    in_files = delivered(pipeline, sandbox, outcome)
    assert pipeline.report["read"] == len(PEOPLE)
    # the same records as messages are counted alike, and change nothing
    before = len(sandbox.journal.imports())
    as_messages = delivered(pipeline, sandbox, pipeline.load(singer(PEOPLE, STREAM)))
    assert as_messages == in_files
    assert len(sandbox.journal.imports()) == before


def test_a_version_in_a_batch_has_to_be_activated(pipeline: Pipeline, folder: Path) -> None:
    (folder / "1.jsonl").write_bytes(packed(PEOPLE[:1]))
    # broken off before ACTIVATE_VERSION and STATE
    lines = batch(str(folder / "1.jsonl"), version=7).splitlines(keepends=True)
    assert pipeline.load("".join(lines[:2])).code == 1
    assert pipeline.report["outcome"] == "incomplete input"


def test_files_in_object_storage(pipeline: Pipeline, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with object_storage(monkeypatch) as bucket:
        with fsspec.open(f"{bucket}/in/1.jsonl", "wb") as file:
            file.write(gzip.compress(packed(), mtime=0))
        pipeline.target["batch_config"] = {"storage": {"root": f"{bucket}/in"}}
        outcome = pipeline.load(batch(f"{bucket}/in/1.jsonl", compression="gzip"))
        assert outcome.code == 0, outcome.log
        assert {"ann@example.com", "bob@example.com", "eve@example.com"} <= sandbox.account.snapshot().keys()
        for url in (f"{bucket}/other/1.jsonl", f"{bucket}/in/../other/1.jsonl", f"{bucket}/in", f"{bucket}/int/1.jsonl"):
            assert_refused(pipeline, pipeline.load(batch(url, compression="gzip")), "not below storage.root")
        assert_refused(pipeline, pipeline.load(batch(f"{bucket}/in/none.jsonl")), "cannot be read")


def assert_refused(pipeline: Pipeline, outcome: Outcome, *words: str) -> None:
    """A refused input is one line that says why, writes nothing and quotes no address."""
    assert outcome.code == 1, outcome.log
    assert outcome.state is None
    (error,) = outcome.errors
    assert error.count("\n") == 0
    for word in ("BATCH", "Nothing was written", *words):
        assert word.lower() in error.lower(), error
    assert "@example.com" not in outcome.log
    assert pipeline.report["outcome"] == "failed"


CONTENTS = {
    "empty": (b"", "is empty"),
    "no JSON": (packed() + b"{\n", "not a JSON object (line 8)"),
    "a blank line": (b"\n" + packed(), "not a JSON object (line 1)"),
    "no object": (packed() + b"[1]\n", "not a JSON object (line 8)"),
    "null": (b"null\n", "not a JSON object (line 1)"),
    "more than a record": (b'{"email":"ann@example.com","segments":[]},"version":1\n', "not a JSON object (line 1)"),
    "cut off": (packed()[:-30], "not a JSON object (line 7)"),
    "names that are not UTF-8": (packed() + b'{"email":"ann@example.com","segments":["\xff"]}\n', "not a JSON object (line 8)"),
    "no JSON in the names": (packed() + b'{"email":"ann@example.com","segments":["A",]}\n', "not a JSON object (line 8)"),
    "a doubtful time": (b'{"email":"ann@example.com","segments":[],"_sdc_deleted_at":0}\n', "_sdc_deleted_at"),
}


@pytest.mark.parametrize("what", CONTENTS)
def test_a_malformed_file_stops_the_run(pipeline: Pipeline, sandbox: Sandbox, folder: Path, what: str) -> None:
    content, word = CONTENTS[what]
    (folder / "good.jsonl").write_bytes(packed())
    (folder / "bad.jsonl").write_bytes(content)
    outcome = pipeline.load(batch(str(folder / "good.jsonl"), str(folder / "bad.jsonl")))
    assert_refused(pipeline, outcome, "'bad.jsonl'", word)
    assert sandbox.account.snapshot() == {}


@pytest.mark.parametrize(
    "content",
    [gzip.compress(packed(), mtime=0)[:-12], gzip.compress(packed(), mtime=0)[:9], packed(), b"\x1f\x8b\x08\x00" + bytes(20)],
)
def test_damaged_compression_stops_the_run(pipeline: Pipeline, sandbox: Sandbox, folder: Path, content: bytes) -> None:
    (folder / "bad.jsonl").write_bytes(content)
    assert_refused(pipeline, pipeline.load(batch(str(folder / "bad.jsonl"), compression="gzip")), "cannot be read")
    assert sandbox.account.snapshot() == {}


def test_only_regular_files_below_the_root_are_read(pipeline: Pipeline, sandbox: Sandbox, folder: Path) -> None:
    outside = folder.parent / "outside.jsonl"
    outside.write_bytes(packed())
    (folder / "good.jsonl").write_bytes(packed())
    (folder / "link.jsonl").symlink_to(outside)
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "folder.jsonl").mkdir()
    (folder / "sub").mkdir()
    expected = {
        # the root has a file of this name
        str(folder / "sub" / "good.jsonl"): "cannot be read",
        "good.jsonl": "cannot be read",
        str(outside): "not below storage.root",
        outside.as_uri(): "not below storage.root",
        str(folder / ".." / "outside.jsonl"): "not below storage.root",
        str(folder / "link.jsonl"): "not below storage.root",
        "http://127.0.0.1:9/x.jsonl": "not below storage.root",
        "s3://bucket/x.jsonl": "not below storage.root",
        str(folder / "pipe.jsonl"): "not a regular file",
        str(folder / "folder.jsonl"): "not a regular file",
        str(folder / "none.jsonl"): "cannot be read",
    }
    for url, word in expected.items():
        assert_refused(pipeline, pipeline.load(batch(url)), word)
    assert sandbox.account.snapshot() == {}


def test_without_a_root_no_file_is_read(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_bytes(packed())
    assert_refused(pipeline, pipeline.load(batch(str(tmp_path / "1.jsonl"))), "storage.root", "batch_config")


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"encoding": {"format": "parquet"}}, "encoding"),
        ({"encoding": {"format": "jsonl", "compression": "zip"}}, "encoding"),
        ({"encoding": {"format": "jsonl", "compression": []}}, "encoding"),
        ({"encoding": "jsonl"}, "encoding"),
        ({"manifest": "file"}, "manifest"),
        ({"manifest": [1]}, "manifest"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_other_encodings_and_manifests_are_refused(pipeline: Pipeline, more: dict[str, object], word: str) -> None:
    assert_refused(pipeline, pipeline.load(batch(**more)), word)  # type: ignore[arg-type]


def test_a_skipped_stream_may_have_batches(pipeline: Pipeline, sandbox: Sandbox, folder: Path) -> None:
    (folder / "1.jsonl").write_bytes(b'{"id": 1}\n{"id": 2}\n')
    schema = {"type": "SCHEMA", "stream": "orders", "schema": {"properties": {"id": {}}}, "key_properties": []}
    orders = {"type": "BATCH", "stream": "orders", "encoding": {"format": "jsonl"}, "manifest": [str(folder / "1.jsonl")]}
    text = json.dumps(schema) + "\n" + json.dumps(orders) + "\n" + singer(PEOPLE[:1], STREAM)
    assert pipeline.load(text).code == 0
    assert sandbox.account.snapshot().keys() == {"ann@example.com"}
