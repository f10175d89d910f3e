"""Write records that are JSON already: in bulk as RECORD messages, or into files that BATCH messages name."""

from __future__ import annotations

import datetime
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tap_nosto_segments.batches import MAX_RECORDS_PER_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tap_nosto_segments.batches import BatchFolder


@dataclass(slots=True)
class _Batch:
    """The records of a stream that are not in a file yet.

    Args:
        version: version for ACTIVATE_VERSION; None if none follows.
        records: the records, as JSON objects.
    """

    version: int | None
    records: list[str] = field(default_factory=list)


class RecordWriter:
    """Writes records to standard output.

    With a folder for batch files, a BATCH message stands for up to `MAX_RECORDS_PER_FILE` RECORD messages of one stream. Call
    `complete_batches` before a message of any other type: it may depend on the records before it.

    Attributes:
        folder: the folder for batch files; None for RECORD messages.
    """

    def __init__(self) -> None:
        """Create a writer of RECORD messages."""
        self.folder: BatchFolder | None = None
        self._batches: dict[str, _Batch] = {}

    def write_records(self, records: Sequence[str], stream: str, version: int | None) -> None:
        """Write a RECORD message for each record, or add the records to a batch.

        Args:
            records: at least one record, as JSON objects.
            stream: name of the stream.
            version: version for ACTIVATE_VERSION; None leaves it out.
        """
        if self.folder is not None:
            self._add(self.folder, records, stream, version)
            return
        version_part = f'"version":{version},' if version is not None else ""
        extracted_at = datetime.datetime.now(datetime.UTC).isoformat()
        head = f'{{"type":"RECORD","stream":"{stream}","record":'
        tail = f',{version_part}"time_extracted":"{extracted_at}"}}\n'
        sys.stdout.write(head + f"{tail}{head}".join(records) + tail)
        sys.stdout.flush()

    def complete_batches(self) -> None:
        """Write the records that are not in a file yet into files, and a BATCH message for each.

        Raises:
            SnapshotError: a file cannot be written.
        """
        if self.folder is None:
            return
        for stream, batch in self._batches.items():
            _write_batch(self.folder, batch.records, stream, batch.version)
        self._batches.clear()

    def _add(self, folder: BatchFolder, records: Sequence[str], stream: str, version: int | None) -> None:
        batch = self._batches.setdefault(stream, _Batch(version))
        batch.records += records
        if len(batch.records) >= MAX_RECORDS_PER_FILE:
            del self._batches[stream]
            _write_batch(folder, batch.records, stream, version)


def _write_batch(folder: BatchFolder, records: Sequence[str], stream: str, version: int | None) -> None:
    for start in range(0, len(records), MAX_RECORDS_PER_FILE):
        url = folder.write(records[start : start + MAX_RECORDS_PER_FILE])
        message: dict[str, object] = {"type": "BATCH", "stream": stream, "encoding": folder.encoding, "manifest": [url]}
        if version is not None:
            message["version"] = version
        sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
        sys.stdout.flush()
