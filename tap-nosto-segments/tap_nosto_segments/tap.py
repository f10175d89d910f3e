"""The Singer tap."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import time
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, ClassVar, NoReturn, cast

import click
from singer_sdk import Tap
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities, TapCapabilities
from singer_sdk.io_base import SingerWriter
from singer_sdk.singerlib import Message, RecordMessage
from singer_sdk.singerlib.json import serialize_json
from singer_sdk.tap_base import CliTestOptionValue
from typing_extensions import override

from tap_nosto_segments.batches import open_batch_folder
from tap_nosto_segments.checking.check import check as run_check
from tap_nosto_segments.config import CONFIG
from tap_nosto_segments.console import only_warnings, write_utf8
from tap_nosto_segments.environment import read_settings, variables_without_effect
from tap_nosto_segments.errors import SettingsError
from tap_nosto_segments.extraction import Extraction, Extractor
from tap_nosto_segments.failures import exit_on_failure
from tap_nosto_segments.inputs import explain_file_errors, read_catalog, read_state
from tap_nosto_segments.messages import RecordWriter
from tap_nosto_segments.nosto.client import NostoClient
from tap_nosto_segments.settings import Settings
from tap_nosto_segments.stream_maps import digest_of, require_mapped_streams, require_marks_of_removal
from tap_nosto_segments.streams import STREAMS, ContactSegmentsStream, ExportStream, SegmentsStream, include_marks_of_removal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from singer_sdk import Stream
    from singer_sdk.plugin_base import _ConfigInput

SECRETS = [name for name, facts in CONFIG.to_dict()["properties"].items() if facts.get("secret")]
REPLICATION_KEYS: dict[str, str | None] = {vars(stream)["name"]: vars(stream).get("replication_key") for stream in STREAMS}


class MessageWriter(SingerWriter):
    """Writes messages to standard output, and records into batch files if there is a folder for them."""

    def __init__(self) -> None:
        """Create a writer of RECORD messages."""
        super().__init__()
        self.records = RecordWriter()

    @override
    def write_message(self, message: Message) -> None:
        if self.records.folder is not None and isinstance(message, RecordMessage):
            self.records.write_records([serialize_json(message.record)], message.stream, message.version)
        else:
            self.records.complete_batches()
            super().write_message(message)


class TapNostoSegments(Tap):
    """Extracts the segments of each contact, and what changed since the last run, from Nosto's Segment Export."""

    name = "tap-nosto-segments"
    message_writer_class = MessageWriter
    config_jsonschema: ClassVar[dict[str, Any]] = CONFIG.to_dict()
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        TapCapabilities.CATALOG,
        TapCapabilities.STATE,
        TapCapabilities.DISCOVER,
        TapCapabilities.ACTIVATE_VERSION,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.BATCH,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    def __init__(self, *, config: Any = None, parse_env_config: bool = False, **options: Any) -> None:
        """Read the settings, in place of the SDK, which reads a text that it does not understand as false."""
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        settings = read_settings(config or {}, schema, from_environment=parse_env_config)
        super().__init__(config=settings, **options)

    @classmethod
    @override
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        super().append_builtin_config(config_jsonschema)
        # flattening would turn the list of names into text; the SDK adds its settings to every tap, whatever the capabilities say
        for name in [name for name in config_jsonschema["properties"] if name.startswith("flattening_")]:
            del config_jsonschema["properties"][name]

    @staticmethod
    def sleep(seconds: float) -> None:
        """Pause between two attempts. Injectable."""
        time.sleep(seconds)

    @staticmethod
    def now() -> datetime.datetime:
        """Return the current time in UTC. Injectable clock."""
        return datetime.datetime.now(datetime.UTC)

    @override
    def discover_streams(self) -> Sequence[Stream]:
        return [stream(self, lambda: self.extraction, self._records) for stream in STREAMS]

    @cached_property
    def settings(self) -> Settings:
        """The validated settings.

        Raises:
            SettingsError: a setting is invalid, or two settings contradict each other.
        """
        return Settings.from_config(self.config)

    @cached_property
    def extraction(self) -> Extraction:
        """The extraction that all streams share. The export is fetched on first use.

        Raises:
            TapError: the run cannot continue; nothing was emitted.
        """
        client = NostoClient(self.settings.request_timeout, self.sleep)
        return Extractor(self.settings, client, self.now, self._maps).extract(self._bookmarks())

    def check_source(self, *, tries_authorisation: bool) -> None:
        """Print what a run would find at Nosto, and whether it would get past its guards. Store and emit nothing.

        Args:
            tries_authorisation: whether to try each form of authorisation first.

        Raises:
            TapError: a run would stop, for this reason.
        """
        self.require_safe_maps()
        run_check(
            self.settings,
            self.sleep,
            self.now,
            self._bookmarks(),
            maps=self._maps,
            needs_catalogue=any(isinstance(stream, SegmentsStream) for stream in self._selected_streams()),
            tries_authorisation=tries_authorisation,
        )

    def prepare_batches(self) -> None:
        """Open the folder for batch files, if `batch_config` names one, and delete those of earlier runs.

        Raises:
            TapError: the folder cannot be used; nothing was emitted.
        """
        config = self.settings.batch_config
        if config is None:
            return
        folder, deleted = open_batch_folder(config, self.settings.snapshot_uri)
        if deleted:
            self.logger.info("Batch files: %d of earlier runs deleted", deleted)
        self._records.folder = folder

    def prepare_streams(self) -> None:
        """Fetch, check, store and compare the export, so that errors occur before the first message.

        Raises:
            TapError: the run cannot continue; nothing was emitted.
        """
        self.require_safe_maps()
        selected = self._selected_streams()
        if not selected:
            msg = "The catalog (--catalog) selects no stream, so there is nothing to do. Select contact_segments in it, or omit --catalog."
            raise SettingsError(msg)
        for stream in selected:
            stream.prepare_changes()

    def require_safe_maps(self) -> None:
        """Reject stream maps for unknown streams, and those by which removed contacts would keep their segments.

        Raises:
            SettingsError: stream_maps cannot be used.
        """
        stream_maps = self.config.get("stream_maps") or {}
        require_mapped_streams(stream_maps, list(self.streams))
        for stream in self._contact_streams():
            require_marks_of_removal(stream_maps, stream.name, is_dropped=stream.is_dropped)

    @property
    def _maps(self) -> str | None:
        """What identifies the stream maps and the property selection of the contacts; None if no contacts are emitted."""
        return next((digest_of(self.config, stream.name, stream.deselected) for stream in self._contact_streams()), None)

    def _contact_streams(self) -> list[ExportStream]:
        return [stream for stream in self._selected_streams() if isinstance(stream, ContactSegmentsStream)]

    @property
    def _records(self) -> RecordWriter:
        return cast("MessageWriter", self.message_writer).records

    def _bookmarks(self) -> list[str | None]:
        return [stream.bookmark for stream in self._selected_streams() if stream.replication_method == "INCREMENTAL"]

    def _selected_streams(self) -> list[ExportStream]:
        return [stream for stream in self.streams.values() if isinstance(stream, ExportStream) and stream.selected]

    @classmethod
    @override
    def invoke(  # type: ignore[override]  # the SDK's own override has the same mismatch
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: _ConfigInput | None = None,
        state: IO[str] | None = None,
        catalog: IO[str] | None = None,
        check: bool = False,
        try_auth: bool = False,
    ) -> None:
        write_utf8()
        if about:
            super().invoke(about=True, about_format=about_format)
        os.umask(0o077)
        is_check = check or try_auth
        with only_warnings() if is_check else contextlib.nullcontext(), exit_on_failure(cls.logger, SECRETS):
            cls.print_version(print_fn=cls.logger.info)
            tap = cls(
                config=config.config if config else {},
                state=None if state is None else read_state(state, REPLICATION_KEYS),
                catalog=None if catalog is None else include_marks_of_removal(read_catalog(catalog, REPLICATION_KEYS)),
                parse_env_config=config is not None and config.parse_env,
            )
            for line in variables_without_effect(
                tap.config, cls.config_jsonschema, from_environment=config is not None and config.parse_env
            ):
                cls.logger.warning("%s", line)
            if is_check:
                tap.check_source(tries_authorisation=try_auth)
                return
            # first, because the SDK writes the starting STATE and each SCHEMA before it requests records
            tap.prepare_batches()
            tap.prepare_streams()
            tap.sync_all()

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        command.help = (
            "Extract the segments of each contact from Nosto's Segment Export, as Singer messages on standard output. Start with --check: "
            "it shows what a run would find, and stores and emits nothing. Settings come from --config; --about lists them."
        )
        command.params += [
            click.Option(
                ["--check"],
                is_flag=True,
                help=(
                    "Fetch the export and test the settings, the guards and each assumption about Nosto. Exit code 0: a run would get past "
                    "its guards."
                ),
            ),
            click.Option(
                ["--try-auth"],
                is_flag=True,
                help=(
                    "As --check, but first request the export once with each value of export_auth, from the host of export_url only, "
                    "and show which one opens it."
                ),
            ),
        ]
        return command

    @classmethod
    @override
    def cb_discover(cls, ctx: click.Context, param: click.Option, value: bool) -> None:
        try:
            with only_warnings():
                super().cb_discover(ctx, param, value)
        except SettingsError:
            # not around the whole: click ends a callback with an exception, too
            with exit_on_failure(cls.logger):
                raise

    @classmethod
    @override
    def cb_config(cls, ctx: Any, param: Any, value: tuple[str, ...]) -> _ConfigInput:
        with exit_on_failure(cls.logger):
            merged = super().cb_config(ctx, param, ())
            for path in value:
                with explain_file_errors(f"config file {path}", "--config", "Correct its path or its content."):
                    added = super().cb_config(ctx, param, (path,))
                merged.config |= added.config
                merged.parse_env |= added.parse_env
            return merged

    @classmethod
    @override
    def cb_test(cls, ctx: Any, param: Any, value: str) -> None:
        if value == CliTestOptionValue.Disabled.value:
            return
        write_utf8()
        with exit_on_failure(cls.logger, SECRETS):
            config = ctx.params["config"]
            tap = cls(config=config.config, parse_env_config=config.parse_env)
            if value == CliTestOptionValue.Schema.value:
                tap.write_schemas()
            else:
                for stream in tap.streams.values():
                    stream.selected = True
                tap.prepare_streams()
                tap.run_connection_test()
        ctx.exit()

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> NoReturn:
        # the SDK would emit a STATE for half an export, and exit with 0
        raise SystemExit(128 + signal.Signals(signum))
