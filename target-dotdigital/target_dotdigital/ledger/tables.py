"""The ledger's tables, and the temporary ones in which rows are handed to them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# compared byte by byte in every database, so that pages by address never miss one
_ADDRESS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

scopes = sa.Table(
    "dotdigital_scopes",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    # account, address book and data field: what the contacts below were delivered to
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("account_id", _NUMBER, nullable=False),
    # how names become values; another one makes all desired values anew
    sa.Column("labels", sa.Text),
    # JSON object, name -> contacts that have it; NULL where names changed since they were counted
    sa.Column("segments", sa.Text),
    # how many contacts dotdigital held when all were read; NULL until then
    sa.Column("account_contacts", sa.Integer),
    # whether the source has once named all of its contacts, so that any other label belongs to none of them
    sa.Column("whole", sa.Boolean, nullable=False, server_default=sa.false()),
    # the last run whose input changed what is desired
    sa.Column("changed_run", sa.Integer, nullable=False, server_default=sa.text("0")),
    # JSON array: streams that came with STATE, so that an input of theirs without one is not complete
    sa.Column("streams", sa.Text),
)

contacts = sa.Table(
    "dotdigital_contacts",
    METADATA,
    sa.Column("scope", sa.Integer, primary_key=True),
    sa.Column("email", _ADDRESS, primary_key=True),
    sa.Column("stream", sa.Text),
    sa.Column("names", sa.Text),
    sa.Column("desired", sa.Text, nullable=False),
    sa.Column("confirmed", sa.Text),
    sa.Column("in_address_book", sa.Boolean, nullable=False),
    sa.Column("contact_id", _NUMBER),
    # sent, and its fate not known
    sa.Column("in_doubt", sa.Boolean, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False),
    # labels that were rejected and are not sent again: until retry_at, or where that is NULL until they change
    sa.Column("rejected", sa.Text),
    # the code of the last rejection, how often in a row, and when to try again (seconds since 1970)
    sa.Column("rejection", sa.Text),
    sa.Column("rejections", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("retry_at", sa.Float),
    # the import that the Data Watchdog rejected the contact with; set until the operator releases it
    sa.Column("held", sa.Integer),
    # the restoring run that asked for the labels
    sa.Column("restored", sa.Integer),
    sa.Column("pending", sa.Boolean, nullable=False),
    # the last run whose input changed what is desired
    sa.Column("changed_run", sa.Integer),
    # the last run that read the contact back from dotdigital
    sa.Column("checked_run", sa.Integer),
    sqlite_with_rowid=False,
)
sa.Index(
    "dotdigital_contacts_retry",
    contacts.c.scope,
    contacts.c.retry_at,
    postgresql_where=contacts.c.retry_at.is_not(None),
    sqlite_where=sa.text("retry_at IS NOT NULL"),
)
sa.Index(
    "dotdigital_contacts_pending",
    contacts.c.scope,
    contacts.c.email,
    postgresql_where=contacts.c.pending,
    # as the queries say it: SQLite compares the words
    sqlite_where=sa.text("pending = 1"),
)

runs = sa.Table(
    "dotdigital_runs",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("scope", sa.Integer, nullable=False),
    sa.Column("started_at", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text),
    # JSON object: label -> contacts
    sa.Column("segments", sa.Text),
)

# bookmarks that were acknowledged: an incremental input has to begin with one of them
bookmarks = sa.Table(
    "dotdigital_bookmarks",
    METADATA,
    sa.Column("scope", sa.Integer, primary_key=True),
    # SHA-256 of the bookmark's normal form, hexadecimal
    sa.Column("digest", sa.Text, primary_key=True),
    # the run whose input ended with it
    sa.Column("run", sa.Integer, nullable=False),
    sa.Column("acknowledged_at", sa.Text, nullable=False),
)

imports = sa.Table(
    "dotdigital_imports",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("scope", sa.Integer, nullable=False),
    sa.Column("run", sa.Integer, nullable=False),
    # dotdigital's id; NULL until it was accepted
    sa.Column("import_id", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("submitted_at", sa.Float, nullable=False),
)

# the before-image of each delivery: what was confirmed, what was sent, what came of it
deliveries = sa.Table(
    "dotdigital_deliveries",
    METADATA,
    sa.Column("import", sa.Integer, primary_key=True),
    sa.Column("email", _ADDRESS, primary_key=True),
    sa.Column("contact_id", _NUMBER),
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text, nullable=False),
    # NULL of an import that is finished: created or updated
    sa.Column("outcome", sa.Text),
    sa.Column("reason", sa.Text),
    sqlite_with_rowid=False,
)


def _temporary(name: str, *columns: sa.Column[Any]) -> sa.Table:
    key = sa.Column("email", _ADDRESS, primary_key=True)
    return sa.Table(f"dotdigital_{name}", sa.MetaData(), key, *columns, prefixes=["TEMPORARY"], sqlite_with_rowid=False)


# what the input says of each contact; of several records for one address the last
incoming = _temporary(
    "incoming",
    sa.Column("stream", sa.Text, nullable=False),
    # JSON array, sorted
    sa.Column("names", sa.Text, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False),
)
# contacts that the input names without saying what they are to hold
mentioned = _temporary("mentioned")
# what the names of contacts are worth as labels
labelled = _temporary("labelled", sa.Column("payload", sa.Text, nullable=False))
# what dotdigital holds
observed = _temporary(
    "observed",
    # NULL where dotdigital names one that cannot be an id
    sa.Column("contact_id", _NUMBER),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("in_address_book", sa.Boolean, nullable=False),
    # whether exclude_emails leaves the contact alone
    sa.Column("excluded", sa.Boolean, nullable=False),
)
# what dotdigital said of the rows of an import
row_results = _temporary(
    "row_results",
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("contact_id", _NUMBER),
    sa.Column("reason", sa.Text),
    # rejected for good just so
    sa.Column("final", sa.Boolean, nullable=False),
    # the id leads nowhere any more
    sa.Column("gone", sa.Boolean, nullable=False),
)
# what a run replaced, and by what
replaced = _temporary("replaced", sa.Column("before", sa.Text, nullable=False), sa.Column("after", sa.Text, nullable=False))
