"""Snapshots in object storage: two runs on two fresh machines, on an S3-compatible server on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nosto_dotdigital_sandbox import Shop
from support.oracle import assert_account, expected
from support.storage import keys, object_storage

if TYPE_CHECKING:
    from support.running import Pipeline


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_two_runs_on_two_fresh_machines(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
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
