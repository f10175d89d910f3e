"""The Singer target."""

from __future__ import annotations

import copy
import signal
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

from singer_sdk import Target
from singer_sdk.exceptions import MissingKeyPropertiesError
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities
from singer_sdk.mapper import PluginMapper, RemoveRecordTransform, SameRecordTransform
from typing_extensions import override

from target_dotdigital.batches import batch_lines
from target_dotdigital.clock import Clock
from target_dotdigital.environment import read_settings
from target_dotdigital.errors import NoInputError, StreamError
from target_dotdigital.failures import SIGNALLED
from target_dotdigital.reader import Reader, RecordDecoder, RecordSkipper, is_empty
from target_dotdigital.settings import SCHEMA, Settings
from target_dotdigital.sinks import ContactSink
from target_dotdigital.stream_maps import AddressMaps, Fate, has_expressions, require_stable_addresses

# instead of the SDK's, which does not say what the setting does
BATCH_DESCRIPTION = "For taps that send BATCH messages: storage.root is the only place from which their files (JSONL) are read."

if TYPE_CHECKING:
    from types import FrameType
    from typing import IO

    from singer_sdk import Sink

    from target_dotdigital.reporting.report import Report
    from target_dotdigital.sync.run import Run


class TargetDotdigital(Target):
    """Keep contact labels in dotdigital in sync with the source. Create, update and clear in bulk; never touch consent."""

    name = "target-dotdigital"
    config_jsonschema: ClassVar[dict[str, Any]] = copy.deepcopy(SCHEMA)
    default_sink_class = ContactSink
    message_reader_class = Reader
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        PluginCapabilities.ABOUT,
        PluginCapabilities.BATCH,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]
    # the SDK must not drain sinks by age: nothing is delivered before the input has ended
    _MAX_RECORD_AGE_IN_MINUTES = float("inf")
    #: Injectable clock.
    clock: ClassVar[type[Clock]] = Clock

    def __init__(self, *, config: Any = None, parse_env_config: bool = False, **options: Any) -> None:
        """Read the settings, in place of the SDK, which reads an unrecognised text as false."""
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        settings = read_settings(config or {}, schema, from_environment=parse_env_config)
        super().__init__(config=settings, **options)

    @cached_property
    def settings(self) -> Settings:
        """The validated settings.

        Raises:
            SettingsError: they contradict each other, or notifications cannot be sent to notify_urls.
        """
        settings = Settings.from_config(self.config)
        require_stable_addresses(settings.stream_maps, settings.email_property, settings.segments_property)
        if settings.notify_urls:
            from target_dotdigital.reporting.notifications import load_receivers

            load_receivers(settings.notify_urls)
        return settings

    #: The run, open while the target listens.
    run: Run

    @cached_property
    def skipped(self) -> dict[str, str]:
        """Streams without contacts, and the reason for each."""
        return {}

    @property
    def line(self) -> int:
        """Number of the last line that did not take a fast path; 0 before the first."""
        return self._reader.line

    @property
    def _reader(self) -> Reader:
        return cast("Reader", self.message_reader)

    def sync(self, report: Report, file_input: IO[str] | None = None) -> None:
        """Deliver an input.

        Args:
            report: the report of the run.
            file_input: the input; standard input if it is None.

        Raises:
            TargetError: the run cannot start, was not allowed to deliver, or not everything arrived.
        """
        if is_empty(file_input or self._reader.default_input):
            msg = "No input: the tap failed before its first message. Nothing was done. The tap's own last line says why."
            raise NoInputError(msg)
        from target_dotdigital.sync.run import open_run

        with open_run(self.settings, self.clock(), report) as self.run:
            self._reader.empty_record = self._take_empty
            self._reader.versioned_record = self._begin_version
            self.listen(file_input)

    @override
    def setup_mapper(self) -> None:
        # a copy, because the SDK takes `__else__` out of the settings
        self.mapper = PluginMapper(plugin_config=copy.deepcopy(dict(self.config)), logger=self.logger)

    def is_mapped_to_null(self, stream_name: str) -> bool:
        """Return whether stream_maps drop the whole stream."""
        return any(isinstance(stream_map, RemoveRecordTransform) for stream_map in self.mapper.stream_maps.get(stream_name, []))

    @cached_property
    def _address_maps(self) -> AddressMaps:
        return AddressMaps(self.config, self.settings.email_property)

    def _contact_streams(self, stream: str) -> list[str]:
        """Return the names of a stream's contacts after stream_maps; none if it has no contacts."""
        names = (stream_map.stream_alias for stream_map in self.mapper.stream_maps.get(stream, []))
        return [name for name in names if name not in self.skipped]

    def _take_empty(self, stream: str) -> None:
        for name in self._contact_streams(stream):
            self.run.collector.add_record(name, None, None, deleted=False)

    def _begin_version(self, stream: str, version: int) -> None:
        for name in self._contact_streams(stream):
            self.run.collector.begin_version(name, version)
        if isinstance(decoder := self._reader.decoders.get(stream), RecordDecoder):
            decoder.version = version

    @classmethod
    @override
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        super().append_builtin_config(config_jsonschema)
        # of the SDK's own settings, those for loading into tables have no meaning here
        for name in ("add_record_metadata", "batch_size_rows", "load_method"):
            config_jsonschema["properties"].pop(name, None)
        batch = config_jsonschema["properties"]["batch_config"]
        config_jsonschema["properties"]["batch_config"] = {**batch, "description": BATCH_DESCRIPTION}

    @override
    def get_sink(self, stream_name: str, **kwargs: Any) -> Sink:
        sink = super().get_sink(stream_name, **kwargs)
        if kwargs.get("schema") is not None:
            self._register_decoder(stream_name, sink)
        return sink

    def _register_decoder(self, stream_name: str, sink: Sink) -> None:
        """Send records of this stream straight to the collector if no stream map applies."""
        decoders = self._reader.decoders
        self._remove_decoder(stream_name)
        maps = self.mapper.stream_maps.get(stream_name, [])
        settings = self.settings
        if stream_name in self.skipped and len(maps) == 1:
            decoders[stream_name] = RecordSkipper(stream_name)
        elif [type(stream_map) for stream_map in maps] == [SameRecordTransform] and set(sink.key_properties or ()) <= {
            settings.email_property
        }:
            take = self.run.collector.add_decoded
            decoders[stream_name] = RecordDecoder(stream_name, settings.email_property, settings.segments_property, take)

    def _remove_decoder(self, stream_name: str) -> None:
        if (decoder := self._reader.remove_decoder(stream_name)) is not None:
            self._sinks_active[stream_name].record_counter_metric.increment(decoder.count)

    @override
    def process_endofpipe(self) -> None:
        for stream_name in list(self._reader.decoders):
            self._remove_decoder(stream_name)
        if self.skipped and not self.run.collector.streams:
            msg = (
                f"{next(iter(self.skipped.values()))}, and no other stream of the input holds contacts. Nothing was written, and the "
                "bookmark stays. Select a stream with contacts in the tap, name its properties in email_property and "
                "segments_property, or rename them with stream_maps."
            )
            raise StreamError(msg)
        from target_dotdigital.sync.agreement import StateSpan

        states = StateSpan(
            self._begin, self._latest_state, {name: self._reader.last_record(name) for name in self.mapper.stream_maps}
        )
        self._acknowledged = self.run.finish(states, self.skipped)
        super().process_endofpipe()

    #: The STATE with which the input begins, as SDK taps send it.
    _begin: dict[str, Any] | None = None
    #: Whether STATE may be emitted.
    _acknowledged = False

    @override
    def _process_state_message(self, message_dict: dict[str, Any]) -> None:
        super()._process_state_message(message_dict)
        if self._reader.line == 1:
            self._begin = message_dict["value"]
        self.run.collector.on_state()

    @override
    def _process_schema_message(self, message_dict: dict[str, Any]) -> None:
        stream, schema = message_dict["stream"], message_dict["schema"]
        # before any stream map, and before the sink adds it
        is_marked = "_sdc_deleted_at" in schema["properties"]
        super()._process_schema_message(message_dict)
        if self.config.get("stream_maps"):
            self._address_maps.register(stream, schema)
        for name in self._contact_streams(stream):
            collector = self.run.collector
            collector.sources[name] = stream
            if is_marked:
                collector.marked.add(name)

    @override
    def _process_record_message(self, message_dict: dict[str, Any]) -> None:
        stream, record = message_dict["stream"], message_dict["record"]
        maps = self.mapper.stream_maps.get(stream, [])
        if not has_expressions(maps):
            super()._process_record_message(message_dict)
            return
        email = self.settings.email_property
        for name, fate, mapped in self._address_maps.apply(maps, stream, record):
            sink = self.get_sink(name)
            sink.record_counter_metric.increment()
            if fate is Fate.PASSED:
                if not mapped.keys() >= set(sink.key_properties):
                    # as the SDK raises it for every record
                    msg = "A record lacks a key property."
                    raise MissingKeyPropertiesError(msg)
                sink.process_record(dict(mapped), {})
            elif name not in self.skipped and fate is Fate.REMOVED:
                self.run.collector.add_record(name, mapped.get(email), None, deleted=True)
            elif name not in self.skipped:
                self.run.collector.add_dropped(name, mapped.get(email))

    @override
    def _process_batch_message(self, message_dict: dict[str, Any]) -> None:
        stream = message_dict["stream"]
        if message_dict.get("version") is not None:
            self._begin_version(stream, message_dict["version"])
        self._reader.read_batch(stream, batch_lines(message_dict, self.config.get("batch_config")), self._process_record_message)

    @override
    def _write_state_message(self, state: dict[str, Any]) -> None:
        # the barrier: STATE stands for rows that dotdigital has confirmed, or rejected with a reason code
        if self._acknowledged:
            super()._write_state_message(state)

    #: Whether a signal has ended the run.
    _terminated = False

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        # the rest of the input is not read, and no STATE is emitted: the next run continues from the ledger
        if not self._terminated:  # a second signal must not interrupt the report
            self._terminated = True
            raise SystemExit(SIGNALLED + signal.Signals(signum))
