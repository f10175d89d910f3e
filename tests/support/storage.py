"""Object storage: an S3-compatible server on loopback."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import boto3
import fsspec
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


@contextlib.contextmanager
def object_storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the address of an empty bucket; the environment leads every client there."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "eu-west-1",
        }.items():
            monkeypatch.setenv(name, value)
        configuration = {"LocationConstraint": "eu-west-1"}
        # the servers of one process share their buckets
        bucket = f"snapshots-{uuid.uuid4().hex[:12]}"
        boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=configuration)
        yield f"s3://{bucket}"
    finally:
        fsspec.filesystem("s3").clear_instance_cache()
        server.stop()


def keys(address: str) -> list[str]:
    """Name what a bucket holds."""
    bucket = address.removeprefix("s3://")
    return [entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", [])]
