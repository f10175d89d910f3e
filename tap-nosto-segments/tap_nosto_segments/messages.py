"""Write RECORD messages in bulk, from records that are JSON already."""

from __future__ import annotations

import datetime
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def write_records(records: Sequence[str], stream: str, version: int | None) -> None:
    """Write a RECORD message for each record to standard output.

    Args:
        records: at least one record, as JSON objects.
        stream: name of the stream.
        version: version for ACTIVATE_VERSION; None leaves it out.
    """
    version_part = f'"version":{version},' if version is not None else ""
    extracted_at = datetime.datetime.now(datetime.UTC).isoformat()
    head = f'{{"type":"RECORD","stream":"{stream}","record":'
    tail = f',{version_part}"time_extracted":"{extracted_at}"}}\n'
    sys.stdout.write(head + f"{tail}{head}".join(records) + tail)
    sys.stdout.flush()
