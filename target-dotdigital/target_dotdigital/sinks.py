"""The Singer side of a stream: hands each record to the collector. Knows nothing of HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from singer_sdk import BatchSink
from singer_sdk.helpers.conform import DatetimeErrorTreatmentEnum
from typing_extensions import override

from target_dotdigital.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from singer_sdk import Target

    from target_dotdigital.settings import Settings
    from target_dotdigital.sync.run import SyncRun

SHOWN = 20


class ContactTarget(Protocol):
    """What a sink needs of its target."""

    @property
    def settings(self) -> Settings:
        """The settings, checked."""
        ...

    @property
    def session(self) -> SyncRun:
        """The run, opened by the first stream."""
        ...


class ContactSink(BatchSink):
    """Takes the contacts of one stream."""

    def __init__(self, target: Target, stream_name: str, schema: dict[str, Any], key_properties: Sequence[str] | None) -> None:
        """Refuse a stream that holds no contacts.

        Raises:
            StreamError: it lacks the address or the segments.
        """
        self._target = cast("ContactTarget", target)
        settings = self._target.settings
        self._email, self._segments = settings.email_property, settings.segments_property
        there = sorted(name for name in schema["properties"] if not name.startswith("_sdc_"))
        for name, setting in ((self._email, "email_property"), (self._segments, "segments_property")):
            if name not in there:
                shown = ", ".join(there[:SHOWN]) or "none"
                msg = (
                    f"The stream {stream_name!r} has no property {name!r} (it has: {shown}): it holds no contacts that this target "
                    f"could label. Deselect the stream in the tap, name the property in {setting}, or rename it with stream_maps."
                )
                raise StreamError(msg)
        super().__init__(target, stream_name, schema, key_properties)
        self._target.session.collector.streams.add(stream_name)

    @property
    def include_sdc_metadata_properties(self) -> bool:
        """Keep `_sdc_deleted_at`, which the SDK would take off the record: it says that the contact removed."""
        return True

    @property
    def max_size(self) -> int:
        """The ledger takes everything; nothing is ever full."""
        return 1 << 62

    @property
    def datetime_error_treatment(self) -> DatetimeErrorTreatmentEnum:
        """Never end the run over a date that does not count; a mark of deletion stays one, whatever it says."""
        return DatetimeErrorTreatmentEnum.MAX

    @override
    def get_validator(self) -> None:
        # The two properties that count are checked by the collector, which refuses a wrong record without quoting it;
        # the SDK's validation would end the run and log the record.
        return None

    @override
    def process_record(self, record: dict[str, Any], context: dict[str, Any]) -> None:
        self._target.session.collector.add(
            self.stream_name,
            record.get(self._email),
            record.get(self._segments),
            deleted=record.get("_sdc_deleted_at") is not None,
        )

    @override
    def process_batch(self, context: dict[str, Any]) -> None:
        """Nothing waits here: delivery starts when the input has ended."""

    @override
    def activate_version(self, new_version: int) -> None:
        self._target.session.collector.activate(self.stream_name)
