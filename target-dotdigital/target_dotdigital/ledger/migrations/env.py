"""Tells Alembic to use the transaction of the run that upgrades its ledger."""

from __future__ import annotations

from alembic import context

from target_dotdigital.ledger.schema import METADATA, layouts

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=layouts.name,
    # SQLite changes most of a table by copying it
    render_as_batch=True,
)
context.run_migrations()
