"""The ledger's tables."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

scopes = sa.Table(
    "dotdigital_scopes",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    # account, address book and data field: what the contacts below were delivered to
    sa.Column("key", sa.Text, nullable=False, unique=True),
    sa.Column("account_id", _NUMBER, nullable=False),
    # how names become values; another one makes all desired values anew
    sa.Column("labels", sa.Text),
    # how many contacts dotdigital held when all were read; NULL until then
    sa.Column("account_contacts", sa.Integer),
    # whether the source has once named all of its contacts, so that any other label is nobody's
    sa.Column("whole", sa.Boolean, nullable=False, server_default=sa.false()),
)

contacts = sa.Table(
    "dotdigital_contacts",
    METADATA,
    sa.Column("scope", sa.Integer, primary_key=True),
    # compared byte by byte in every database, so that pages by address never miss one
    sa.Column("email", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True),
    sa.Column("stream", sa.Text),
    sa.Column("names", sa.Text),
    sa.Column("desired", sa.Text, nullable=False),
    sa.Column("confirmed", sa.Text),
    sa.Column("listed", sa.Boolean, nullable=False),
    sa.Column("contact_id", _NUMBER),
    # sent, and its fate not known
    sa.Column("in_doubt", sa.Boolean, nullable=False),
    sa.Column("vanished", sa.Boolean, nullable=False),
    # what was refused for good, and why
    sa.Column("refused", sa.Text),
    sa.Column("refusal", sa.Text),
    # the last run whose input named the contact
    sa.Column("run", sa.Integer, nullable=False),
    sa.Column("pending", sa.Boolean, nullable=False),
    # the last reading back of the whole account that found the contact
    sa.Column("found", _NUMBER),
    sqlite_with_rowid=False,
)
sa.Index(
    "dotdigital_contacts_pending",
    contacts.c.scope,
    contacts.c.email,
    postgresql_where=contacts.c.pending,
    sqlite_where=contacts.c.pending,
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
    sa.Column("email", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), primary_key=True),
    sa.Column("contact_id", _NUMBER),
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text),
    sa.Column("reason", sa.Text),
    sqlite_with_rowid=False,
)
