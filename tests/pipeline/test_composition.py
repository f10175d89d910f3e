"""The tap's history in other people's targets: a file, and a SQL database that answers the README's question."""

from __future__ import annotations

import datetime
import json
import subprocess
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from nosto_dotdigital_sandbox import ExportFile, Shop
from support.oracle import expected
from support.others import other
from support.running import START, Pipeline, run_tap
from tap_nosto_segments.tap import TapNostoSegments

if TYPE_CHECKING:
    from pathlib import Path

SHOP = Shop(400, change_per_mille=200)
LEDGERS = ["postgresql"]


def history(pipeline: Pipeline) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Give the tap's output for two days, and what it has to say."""
    catalog = TapNostoSegments(config={}, validate_config=False, setup_mapper=False).catalog_dict
    for entry in catalog["streams"]:
        root = next(one for one in entry["metadata"] if not one["breadcrumb"])
        root["metadata"]["selected"] = entry["tap_stream_id"] == "segment_changes"
    outputs, state = [], None
    moves: list[tuple[str, str, str]] = []
    before: dict[str, list[str]] = {}
    for day in range(2):
        body = SHOP.export(day)
        pipeline.sandbox.nosto.export = ExportFile(body, START + datetime.timedelta(days=day))
        outcome = run_tap(pipeline.tap, state, catalog)
        assert outcome.code == 0, outcome.log
        state = outcome.bookmark
        outputs.append(outcome.output)
        now = expected(body)
        for email in now.keys() | before.keys():
            new, old = set(now.get(email, ())), set(before.get(email, ()))
            moves += [(email, name, "entered") for name in new - old] + [(email, name, "left") for name in old - new]
        before = now
    return outputs, sorted(moves)


def feed(name: str, config: dict[str, Any], outputs: list[str], folder: Path) -> None:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    for text in outputs:
        done = subprocess.run([other(name), "--config", path], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]


def test_the_history_in_a_file(pipeline: Pipeline, tmp_path: Path) -> None:
    outputs, moves = history(pipeline)
    feed("target-jsonl", {"destination_path": str(tmp_path), "do_timestamp_file": False}, outputs, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "segment_changes.jsonl").read_text().splitlines()]
    assert sorted((line["email"], line["segment"], line["change"]) for line in lines) == moves


def test_who_left_loyal_customers(pipeline: Pipeline, tmp_path: Path) -> None:
    outputs, moves = history(pipeline)
    url = sa.make_url(pipeline.target["ledger_url"])
    schema = str(url.query["options"]).rpartition("=")[2]
    address = url.set(query={}).render_as_string(hide_password=False)
    feed("target-postgres", {"sqlalchemy_url": address, "default_target_schema": schema}, outputs, tmp_path)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT email, segment, change FROM segment_changes")).all()
        left = connection.scalars(
            sa.text(
                "SELECT email FROM segment_changes WHERE segment = 'Loyal Customers' AND change = 'left' AND exported_at >= :since"
            ),
            {"since": START + datetime.timedelta(days=1)},
        ).all()
    engine.dispose()
    assert sorted(tuple(row) for row in rows) == moves
    assert sorted(left) == [email for email, name, change in moves if name == "Loyal Customers" and change == "left"]
    assert left
