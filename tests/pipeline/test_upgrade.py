"""A ledger of an earlier layout is upgraded in place: everything is kept, and whatever interrupts the upgrade, it can be started again."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from nosto_dotdigital_sandbox.account import Import
from support.oracle import FIELD, folded
from support.running import run_target
from support.upgrading import OLD_LEDGERS, content, create_old_ledger, upgrade
from target_dotdigital.ledger.database import open_ledger
from target_dotdigital.ledger.schema import LAYOUT, METADATA, layouts

if TYPE_CHECKING:
    from pathlib import Path

    from nosto_dotdigital_sandbox import Sandbox
    from support.running import Outcome, Pipeline

LEDGERS = ["sqlite", "postgresql"]
DAY = 86_400.0
PEOPLE = tuple(f"p{number:02}@example.com" for number in range(40))


@pytest.fixture
def old(pipeline: Pipeline, sandbox: Sandbox) -> Pipeline:
    """A pipeline as the code of layout 1 left it after five days; the account has the contacts that belong to its ledger."""
    create_old_ledger(pipeline.target["ledger_url"])
    facts = json.loads((OLD_LEDGERS / "layout_1.account.json").read_text())
    account, time = sandbox.account, pipeline.time
    time.seconds, time.skipped = facts["seconds"]
    for id_, name, visibility in facts["books"]:
        if id_ not in account.books:
            assert account.add_book(name, visibility).id == id_
    for name, kind, visibility in facts["fields"]:
        account.add_field(name, kind, visibility)
    for id_, email, created, data_fields, lists in facts["contacts"]:
        contact = account.add_contact(email, data_fields=data_fields, lists=set(lists))
        assert contact.id == id_
        contact.created = contact.updated = created
    for id_, rows in facts["imports"]:
        account.imports[id_] = Import(id_, rows, "overwrite", polls=0, due=0.0)
    account.refuse = {"p11@example.com": "globallySuppressed", "p12@example.com": "somethingNew"}.get
    pipeline.state = facts["state"]
    pipeline.target |= {"max_value_length": 20, "contacts_per_import": 10, "overflow": "drop"}
    return pipeline


def day(number: int, labels: dict[str, list[str]], removed: tuple[str, ...] = ()) -> str:
    """Return the input of a day, from the bookmark of the day before."""

    def state(day: int) -> dict[str, Any]:
        return {"type": "STATE", "value": {"bookmarks": {"people": {"replication_key_value": f"2026-11-{day:02}"}}}}

    properties: dict[str, Any] = {"email": {}, "segments": {}, "_sdc_deleted_at": {}}
    records = [{"email": email, "segments": names} for email, names in labels.items()]
    records += [{"email": email, "segments": [], "_sdc_deleted_at": "2026-11-09"} for email in removed]
    lines = [
        state(number - 1),
        {"type": "SCHEMA", "stream": "people", "schema": {"type": "object", "properties": properties}, "key_properties": ["email"]},
        *({"type": "RECORD", "stream": "people", "record": record} for record in records),
        state(number),
    ]
    return "".join(json.dumps(line) + "\n" for line in lines)


def held(sandbox: Sandbox, field: str = FIELD) -> dict[str, str]:
    """Return what dotdigital holds: address -> labels."""
    return {email: contact.data_fields.get(field, "") for email, contact in folded(sandbox.account.snapshot()).items()}


def command(pipeline: Pipeline, **options: Any) -> Outcome:
    return run_target(pipeline.target, "", pipeline.time, **options)


def test_ten_days_across_an_upgrade_lose_nothing(old: Pipeline, sandbox: Sandbox) -> None:
    # five days are in the old ledger; the import that was open on the fifth has to be polled by its ID
    wanted = dict.fromkeys(PEOPLE, "VIP") | dict.fromkeys(PEOPLE[:5], "Affinity: Nike;VIP")
    wanted |= dict.fromkeys([*PEOPLE[5:10], *PEOPLE[16:20]], "Lapsed") | {PEOPLE[10]: ""}
    # on the fifth day the STATE was not emitted, so the sixth starts from the fourth
    fifth = day(5, {email: ["Lapsed"] for email in PEOPLE[17:20]})
    # drop instead of spill is another choice, which has to be activated
    assert old.load(fifth).code == 1
    old.target["activation_code"] = old.report["activation_code"]
    imports_before = len(sandbox.journal.imports())
    outcome = old.load(fifth)
    assert outcome.code == 0, outcome.log
    assert held(sandbox) == wanted
    sent = [call for call in sandbox.journal.imports()[imports_before:] if call.status == 202]
    addresses = {next(iter(row["identifiers"].values())) for call in sent for row in call.json()["contacts"]}
    # the labels that fit no longer, and what was rejected under the former settings; no row of the open import, none that is held
    assert addresses == {*PEOPLE[:5], *PEOPLE[11:13]}
    for number, changes, removed in (
        (6, {PEOPLE[20]: ["Lapsed"]}, ()),
        (7, {}, (PEOPLE[21],)),
        (8, {PEOPLE[11]: ["New"], PEOPLE[22]: ["New", "VIP"]}, ()),
        (9, {"p40@example.com": ["VIP"]}, ()),
        (10, {PEOPLE[20]: ["VIP"]}, (PEOPLE[0],)),
    ):
        old.time.skipped += DAY
        outcome = old.load(day(number, changes, removed))
        assert outcome.code == 0, outcome.log
        wanted |= {email: ";".join(names) for email, names in changes.items()} | dict.fromkeys(removed, "")
    # rejected before and after the upgrade, so it keeps what it has
    wanted[PEOPLE[11]] = "VIP"
    assert held(sandbox) == wanted
    # what the watchdog rejected before the upgrade is held until it is released
    old.time.skipped += DAY
    assert command(old, release=True).code == 0
    assert old.load(day(11, {})).code == 0
    wanted |= dict.fromkeys(PEOPLE[13:16], "Lapsed")
    assert held(sandbox) == wanted
    # before-images from before the upgrade can be put back
    assert command(old, restore=True, run=2).code == 0
    assert held(sandbox) == wanted | dict.fromkeys(PEOPLE[5:10], "VIP") | {PEOPLE[10]: "VIP"}
    assert set(held(sandbox, "OTHERFIELD").values()) == {"", "VIP"}
    # labels that were spilled stay in dotdigital
    assert held(sandbox, f"{FIELD}_2")[PEOPLE[1]] == "Affinity: Puma;VIP"


def test_an_upgrade_is_one_line_in_the_log(old: Pipeline) -> None:
    lines = [line for line in old.load(day(5, {})).log.splitlines() if "Ledger upgraded" in line]
    assert len(lines) == 1
    assert f"from layout 1 to {LAYOUT}" in lines[0]
    assert "Ledger upgraded" not in old.load(day(5, {})).log


def test_schema_and_migrations_do_not_differ(ledger_url: str, tmp_path: Path) -> None:
    create_old_ledger(ledger_url)
    upgrade(ledger_url)
    engine = sa.create_engine(ledger_url)
    with engine.connect() as connection:
        options = {"version_table": layouts.name, "compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []
        upgraded = sorted(sa.inspect(connection).get_table_names())
    engine.dispose()
    assert upgraded == sorted(METADATA.tables)
    if ledger_url.startswith("sqlite"):
        # partial indexes and tables without rowid, which a comparison of metadata does not see
        new = f"sqlite:///{tmp_path}/new.db"
        open_ledger(new).close()
        assert _definitions(ledger_url) == _definitions(new)


def _definitions(url: str) -> set[str]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").scalars().all()
    engine.dispose()
    return {" ".join(text.replace('"', "").split()) for text in found if "dotdigital_layout" not in text}


def test_only_an_upgrade_takes_the_time_to_import_alembic(tmp_path: Path) -> None:
    script = """
import sys
import target_dotdigital.target
from target_dotdigital.ledger.database import open_ledger
for _ in range(2):
    ledger = open_ledger(sys.argv[1])
    with ledger.locked(101):
        pass
    ledger.close()
sys.exit("alembic" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script, f"sqlite:///{tmp_path}/new.db"], check=False).returncode == 0


@pytest.mark.slow
def test_an_upgrade_that_is_killed_at_any_statement_starts_again(ledger_url: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(OLD_LEDGERS.parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "support.upgrading", ledger_url], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_a_command_that_reads_does_not_upgrade(old: Pipeline) -> None:
    before = content(old.target["ledger_url"])
    for options in ({"runs": True}, {"explain": PEOPLE[0]}):
        outcome = command(old, **options)
        assert outcome.code == 1
        assert "made by an earlier version" in outcome.errors[-1]
        assert "The next run upgrades it" in outcome.errors[-1]
    assert content(old.target["ledger_url"]) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE dotdigital_layout SET version_num = '999'", "made by a newer version"),
        ("UPDATE dotdigital_layout SET version_num = ''", "half upgraded"),
        ("DELETE FROM dotdigital_layout", "half upgraded"),
        ("ALTER TABLE dotdigital_contacts ADD COLUMN more INTEGER", "half upgraded"),
        ("ALTER TABLE dotdigital_imports RENAME COLUMN result_run TO settled_run", "half upgraded"),
        ("DROP TABLE dotdigital_deliveries", "half upgraded"),
        # as older ledgers than layout 1
        ("DROP TABLE dotdigital_layout", "cannot be upgraded"),
    ],
)
def test_a_ledger_that_is_newer_or_half_upgraded_is_refused(old: Pipeline, change: str, words: str) -> None:
    upgrade(old.target["ledger_url"])
    engine = sa.create_engine(old.target["ledger_url"])
    with engine.begin() as connection:
        connection.exec_driver_sql(change)
    engine.dispose()
    before = content(old.target["ledger_url"])
    outcome = old.load(day(5, {}))
    assert (outcome.code, outcome.output) == (1, "")
    assert words in outcome.errors[-1]
    assert "defect" not in outcome.log
    assert old.sandbox.journal.writes() == []
    assert content(old.target["ledger_url"]) == before


def test_an_upgrade_waits_for_the_runs_of_all_accounts(old: Pipeline) -> None:
    url = old.target["ledger_url"]
    upgrade(url)
    other = open_ledger(url)
    with other.locked(102):
        create_old_ledger(url)
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO dotdigital_scopes (account_id, data_field) VALUES (102, 'NOSTOSEGMENT')")
        engine.dispose()
        before = content(url)
        outcome = old.load(day(5, {}))
        assert (outcome.code, outcome.output) == (1, "")
        assert "account 102" in outcome.errors[-1]
        assert content(url) == before
    other.close()
    upgrade(url)
    assert layouts.name in content(url)


def test_the_last_copy_of_the_file_is_kept_until_an_address_is_forgotten(old: Pipeline) -> None:
    if not old.target["ledger_url"].startswith("sqlite"):
        pytest.skip("PostgreSQL needs no copy: the upgrade is one transaction")
    folder = old.folder
    earlier = folder / "ledger.db.before-1"
    earlier.write_bytes(b"")
    # the operator's own
    (folder / "ledger.db.before-upgrade").write_bytes(b"a backup")
    (folder / "ledger.db.before-2026").mkdir()
    before = content(old.target["ledger_url"])
    old.load(day(5, {}))
    copies = sorted(path.name for path in folder.glob("ledger.db.before*"))
    assert copies == [f"ledger.db.before-{LAYOUT}", "ledger.db.before-2026", "ledger.db.before-upgrade"]
    copy = folder / copies[0]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert content(f"sqlite:///{copy}") == before
    assert command(old, forget=PEOPLE[0]).code == 0
    assert sorted(path.name for path in folder.glob("ledger.db.before*")) == copies[1:]
    kept = [path for path in folder.rglob("*") if path.is_file() and PEOPLE[0].encode() in path.read_bytes()]
    assert kept == []


@pytest.mark.parametrize(
    ("harm", "words"),
    [("copy", "it cannot be opened"), ("locked", "another program holds it locked"), ("damaged", "it is damaged")],
)
def test_an_upgrade_that_fails_leaves_the_old_ledger(old: Pipeline, harm: str, words: str) -> None:
    if not old.target["ledger_url"].startswith("sqlite"):
        pytest.skip("a SQLite file")
    path = old.folder / "ledger.db"
    other = sqlite3.connect(path)
    if harm == "copy":
        (old.folder / f"ledger.db.before-{LAYOUT}" / "x").mkdir(parents=True)
    elif harm == "locked":
        old.target["ledger_url"] += "?timeout=0.1"
        other.execute("BEGIN IMMEDIATE")
    else:
        (page,) = other.execute("SELECT rootpage FROM sqlite_master WHERE name = 'dotdigital_deliveries'").fetchone()
        with path.open("r+b") as file:
            file.seek((page - 1) * 4096)
            file.write(b"\xff" * 4096)
    before = path.read_bytes()
    outcome = old.load(day(5, {}))
    assert (outcome.code, outcome.output) == (1, "")
    assert outcome.errors[-1].startswith("The ledger cannot be used: the file ")
    assert words in outcome.errors[-1]
    assert old.sandbox.journal.writes() == []
    other.close()
    if harm == "damaged":
        # the change to WAL, by which the file was opened, is in its first page
        assert path.read_bytes()[4096:] == before[4096:]
        return
    old.target["ledger_url"] = old.target["ledger_url"].removesuffix("?timeout=0.1")
    assert layouts.name not in content(old.target["ledger_url"])
