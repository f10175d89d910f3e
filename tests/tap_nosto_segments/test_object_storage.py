"""Snapshots in object storage: two runs on two fresh machines, on an S3-compatible server on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer
from nosto_dotdigital_sandbox import Shop
from support.oracle import assert_account, expected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.running import Pipeline


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    configuration = {"LocationConstraint": "eu-west-1"}
    boto3.client("s3").create_bucket(Bucket="snapshots", CreateBucketConfiguration=configuration)
    yield "s3://snapshots/shop"
    fsspec.filesystem("s3").clear_instance_cache()
    server.stop()


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_two_runs_on_two_fresh_machines(pipeline: Pipeline, bucket: str) -> None:
    pipeline.tap["snapshot_uri"] = bucket
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
    names = [entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket="snapshots")["Contents"]]
    assert len(names) == 4
    assert not (pipeline.folder / "snapshots").exists()
