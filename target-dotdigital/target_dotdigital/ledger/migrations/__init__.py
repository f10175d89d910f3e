"""Upgrades of ledgers that an earlier version of this target made.

Each file in `versions/` leads from one layout to the next one; Alembic runs them in one transaction. A new layout takes three steps: change
`schema.py`, raise `schema.LAYOUT`, and add a file whose `revision` is the new number and whose `down_revision` is the one before.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy as sa


def migrate(connection: sa.Connection) -> None:
    """Upgrade the tables to the current layout within a transaction.

    Args:
        connection: the transaction.

    Raises:
        LedgerError: the tables are not those of the layout that they should have.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # takes longer to import than anything else here, and few runs upgrade their ledger
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "target_dotdigital.ledger:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
