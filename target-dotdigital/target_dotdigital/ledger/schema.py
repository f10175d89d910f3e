"""The ledger's tables, and the temporary tables in which rows are staged."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

# layout of these tables, which `migrations` leads to from every earlier one
LAYOUT = 2
# the layout of the first ledgers, which hold no number
FIRST_LAYOUT = 1
METADATA = sa.MetaData()
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# compared byte by byte in every database, so that paging by address never skips a row
_ADDRESS = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

# one row: the layout, as Alembic writes it
layouts = sa.Table("dotdigital_layout", METADATA, sa.Column("version_num", sa.String(32), primary_key=True))

scopes = sa.Table(
    "dotdigital_scopes",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    # account and data field that hold the labels of this scope; the data field in capitals
    sa.Column("account_id", _NUMBER, nullable=False),
    sa.Column("data_field", sa.Text, nullable=False),
    # address book of the last run's settings, as shown to people; NULL without an address book
    sa.Column("address_book", sa.Text),
    # label settings; if they change, all desired values are recomputed
    sa.Column("labels", sa.Text),
    # JSON object: segment name -> number of contacts; NULL if names changed since the last count
    sa.Column("segments", sa.Text),
    # JSON object: settings that filter the input; NULL before the first run
    sa.Column("input_filter", sa.Text),
    # number of contacts in dotdigital at the last complete reading; NULL before the first
    sa.Column("account_contacts", sa.Integer),
    # every contact that was created in dotdigital before this time has been read back (seconds since 1970)
    sa.Column("read_at", sa.Float),
    # address book that `contacts.in_address_book` refers to; NULL if no run has used one, or the last run used none
    sa.Column("address_book_id", _NUMBER),
    # contacts in the address book beyond the ledger's members of it, at the last complete reading; NULL before the first
    sa.Column("address_book_offset", sa.Integer),
    # whether a full input has been received, so that all labels of other contacts are orphaned
    sa.Column("had_full_input", sa.Boolean, nullable=False, server_default=sa.false()),
    # whether an address was forgotten that the source may still have, so that the ledger may lack a contact of it
    sa.Column("forgotten", sa.Boolean, nullable=False, server_default=sa.false()),
    # last run whose input changed desired labels
    sa.Column("changed_run", sa.Integer, nullable=False, server_default=sa.text("0")),
    # JSON array: streams that have sent STATE before, so that an input without STATE is incomplete
    sa.Column("streams", sa.Text),
    # JSON object: stream that feeds the data field -> `runs.Feed`; NULL before the first delivery
    sa.Column("feeds", sa.Text),
    # digest of the bookmark from which the last input started, if that input was truncated; empty if it had no bookmark
    sa.Column("truncated", sa.Text),
    # without address book and upload mode: after a change, only membership is delivered again
    sa.UniqueConstraint("account_id", "data_field"),
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
    # consecutive deliveries by address after which the contact was not in the address book
    sa.Column("membership_tries", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("contact_id", _NUMBER),
    # sent with an unknown result; false as long as the import may still end, whose state shows this
    sa.Column("result_unknown", sa.Boolean, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False),
    # whether exclude_emails matches the address, so that the contact is not sent
    sa.Column("excluded", sa.Boolean, nullable=False, server_default=sa.false()),
    # Labels that were rejected. Retried at retry_at, or when the labels change if retry_at is NULL. Both columns are NULL unless a
    # rejection is recorded, so that queries which also ask for a rejection are answered by an index.
    sa.Column("rejected", sa.Text),
    # code of the last rejection, number of consecutive rejections, and time of the next attempt (seconds since 1970)
    sa.Column("rejection", sa.Text),
    sa.Column("rejections", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("retry_at", sa.Float),
    # first and last of the consecutive rejections with this code (seconds since 1970)
    sa.Column("rejected_since", sa.Float),
    sa.Column("rejected_at", sa.Float),
    # import that the Data Watchdog rejected; set until the operator releases the contact
    sa.Column("held", sa.Integer),
    # restoring run that set the desired labels
    sa.Column("restored", sa.Integer),
    sa.Column("pending", sa.Boolean, nullable=False),
    # last run whose input changed the desired labels
    sa.Column("changed_run", sa.Integer),
    # last run that read the contact back from dotdigital
    sa.Column("checked_run", sa.Integer),
    sqlite_with_rowid=False,
)
# usable for each of the conditions: few contacts are rejected, held or without a result
sa.Index(
    "dotdigital_contacts_unaccepted",
    contacts.c.scope,
    contacts.c.email,
    postgresql_where=contacts.c.rejection.is_not(None) | contacts.c.held.is_not(None) | contacts.c.result_unknown,
    sqlite_where=sa.text("rejection IS NOT NULL OR held IS NOT NULL OR result_unknown = 1"),
)
sa.Index(
    "dotdigital_contacts_pending",
    contacts.c.scope,
    contacts.c.email,
    postgresql_where=contacts.c.pending,
    # worded as in the queries: SQLite uses a partial index only if the conditions match
    sqlite_where=sa.text("pending = 1"),
)

runs = sa.Table(
    "dotdigital_runs",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("scope", sa.Integer, nullable=False),
    sa.Column("started_at", sa.Text, nullable=False),
    # NULL until the run ends; a run that was killed never does
    sa.Column("finished_at", sa.Text),
    sa.Column("outcome", sa.Text),
    # JSON object: segment name -> number of contacts
    sa.Column("segments", sa.Text),
    # JSON object: the figures that `runs.RunFigures` describes
    sa.Column("figures", sa.Text),
)

# acknowledged bookmarks: an incremental input has to start from one of them
bookmarks = sa.Table(
    "dotdigital_bookmarks",
    METADATA,
    sa.Column("scope", sa.Integer, primary_key=True),
    # SHA-256 of the bookmark's normal form, hexadecimal
    sa.Column("digest", sa.Text, primary_key=True),
    # run whose input ended with this bookmark
    sa.Column("run", sa.Integer, nullable=False),
    sa.Column("acknowledged_at", sa.Text, nullable=False),
)

imports = sa.Table(
    "dotdigital_imports",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("scope", sa.Integer, nullable=False),
    sa.Column("run", sa.Integer, nullable=False),
    # dotdigital's ID; NULL until the import is accepted
    sa.Column("import_id", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("submitted_at", sa.Float, nullable=False),
    # run that received the outcome, or gave the import up: a later one if the run that sent it did not wait for it; until then NULL
    sa.Column("result_run", sa.Integer),
    # last attempt whose response was lost, so that a copy of the import may be applied late (seconds since 1970); NULL: there is none
    sa.Column("lost_at", sa.Float),
    # whether a run has looked up some of its contacts since, so that its report is trusted
    sa.Column("verified", sa.Boolean, nullable=False, server_default=sa.false()),
)

# before-image of each delivery: confirmed labels, sent labels and outcome
deliveries = sa.Table(
    "dotdigital_deliveries",
    METADATA,
    sa.Column("import", sa.Integer, primary_key=True),
    sa.Column("email", _ADDRESS, primary_key=True),
    sa.Column("contact_id", _NUMBER),
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text, nullable=False),
    # NULL in a finished import: created or updated
    sa.Column("outcome", sa.Text),
    sa.Column("reason", sa.Text),
    sqlite_with_rowid=False,
)


def _temporary(name: str, *columns: sa.Column[Any]) -> sa.Table:
    key = sa.Column("email", _ADDRESS, primary_key=True)
    return sa.Table(f"dotdigital_{name}", sa.MetaData(), key, *columns, prefixes=["TEMPORARY"], sqlite_with_rowid=False)


# input by contact; of several records for one address, the last
incoming = _temporary(
    "incoming",
    sa.Column("stream", sa.Text, nullable=False),
    # JSON array, sorted
    sa.Column("names", sa.Text, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False),
)
# contacts that the input mentions without usable labels
mentioned = _temporary("mentioned")
# contacts of the ledger that the input leaves out, as long as it lists contacts in the order of their addresses
unnamed = _temporary("unnamed")
# contacts of the input in which something changed, with their encoded labels
changed_input = _temporary(
    "changed",
    sa.Column("stream", sa.Text, nullable=False),
    sa.Column("names", sa.Text, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
)
# encoded labels per contact
labelled = _temporary("labelled", sa.Column("payload", sa.Text, nullable=False))
# contacts as read back from dotdigital
observed = _temporary(
    "observed",
    # NULL if dotdigital returned an invalid ID
    sa.Column("contact_id", _NUMBER),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("in_address_book", sa.Boolean, nullable=False),
    # whether it has yet to confirm a double opt-in, and joins the address book when it does
    sa.Column("pending_opt_in", sa.Boolean, nullable=False),
    # whether exclude_emails matches the contact
    sa.Column("excluded", sa.Boolean, nullable=False),
)
# rows of an import that created or updated a contact
accepted_rows = _temporary(
    "accepted",
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("contact_id", _NUMBER),
    # whether the row was matched by address, so that it carried the address book
    sa.Column("by_address", sa.Boolean, nullable=False),
)
# outcomes of the other rows of an import
row_results = _temporary(
    "row_results",
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("contact_id", _NUMBER),
    sa.Column("reason", sa.Text),
    # rejected permanently: not retried until the labels change
    sa.Column("final", sa.Boolean, nullable=False),
    # the contact ID no longer exists
    sa.Column("id_not_found", sa.Boolean, nullable=False),
)
# labels before and after a run, for restoring
replaced = _temporary("replaced", sa.Column("before", sa.Text, nullable=False), sa.Column("after", sa.Text, nullable=False))
