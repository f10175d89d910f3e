"""The Singer tap."""

from __future__ import annotations

import datetime
import os
import signal
import time
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, ClassVar, NoReturn

from singer_sdk import Tap
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities, TapCapabilities
from singer_sdk.tap_base import CliTestOptionValue
from typing_extensions import override

from tap_nosto_segments.config import CONFIG
from tap_nosto_segments.errors import SettingsError
from tap_nosto_segments.extraction import Extraction
from tap_nosto_segments.failures import reported, use_utf8
from tap_nosto_segments.inputs import read_catalog, read_state, readable, require_mapped_streams
from tap_nosto_segments.nosto import Nosto
from tap_nosto_segments.settings import Settings
from tap_nosto_segments.streams import STREAMS, ExportStream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from singer_sdk import Stream
    from singer_sdk.plugin_base import _ConfigInput

SECRETS = [name for name, facts in CONFIG.to_dict()["properties"].items() if facts.get("secret")]
REPLICATION_KEYS: dict[str, str | None] = {vars(stream)["name"]: vars(stream).get("replication_key") for stream in STREAMS}


class TapNostoSegments(Tap):
    """Reads Nosto's Segment Export: which contact is in which segment, and what changed since the last run."""

    name = "tap-nosto-segments"
    config_jsonschema: ClassVar[dict[str, Any]] = CONFIG.to_dict()
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        TapCapabilities.CATALOG,
        TapCapabilities.STATE,
        TapCapabilities.DISCOVER,
        TapCapabilities.ACTIVATE_VERSION,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    @staticmethod
    def sleep(seconds: float) -> None:
        """Wait between two tries. Injectable."""
        time.sleep(seconds)

    @staticmethod
    def now() -> datetime.datetime:
        """Return the time in UTC. Injectable clock."""
        return datetime.datetime.now(datetime.UTC)

    @override
    def discover_streams(self) -> Sequence[Stream]:
        return [stream(self) for stream in STREAMS]

    @cached_property
    def settings(self) -> Settings:
        """The settings, checked.

        Raises:
            SettingsError: they contradict each other.
        """
        return Settings.of(self.config)

    @cached_property
    def extraction(self) -> Extraction:
        """The run's export. Fetches it when it is first asked for."""
        bookmarks = [stream.bookmark for stream in self._selected() if stream.replication_method == "INCREMENTAL"]
        return Extraction(self.settings, bookmarks, Nosto(self.settings.request_timeout, self.sleep), self.now)

    def prepare(self) -> None:
        """Do everything that can fail before the first message is written: fetch, check, store, compare.

        Raises:
            TapError: the run cannot go on; nothing was written.
        """
        require_mapped_streams(self.config.get("stream_maps") or {}, list(self.streams))
        selected = self._selected()
        if not selected:
            msg = "The catalog (--catalog) selects no stream, so there is nothing to do. Select contact_segments in it, or leave it out."
            raise SettingsError(msg)
        for stream in selected:
            stream.prepare()

    def _selected(self) -> list[ExportStream]:
        return [stream for stream in self.streams.values() if isinstance(stream, ExportStream) and stream.selected]

    @classmethod
    @override
    def invoke(  # type: ignore[override]  # as the SDK's own
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: _ConfigInput | None = None,
        state: IO[str] | None = None,
        catalog: IO[str] | None = None,
    ) -> None:
        if about:
            super().invoke(about=True, about_format=about_format)
        os.umask(0o077)
        use_utf8()
        with reported(cls.logger, SECRETS):
            cls.print_version(print_fn=cls.logger.info)
            tap = cls(
                config=config.config if config else {},
                state=None if state is None else read_state(state, REPLICATION_KEYS),
                catalog=None if catalog is None else read_catalog(catalog, REPLICATION_KEYS),
                parse_env_config=config is not None and config.parse_env,
            )
            # the SDK writes the starting STATE and each SCHEMA before it asks for records
            tap.prepare()
            tap.sync_all()

    @classmethod
    @override
    def cb_config(cls, ctx: Any, param: Any, value: tuple[str, ...]) -> _ConfigInput:
        with reported(cls.logger):
            merged = super().cb_config(ctx, param, ())
            for path in value:
                with readable(f"config file {path}", "--config", "Correct its path or its content."):
                    one = super().cb_config(ctx, param, (path,))
                merged.config |= one.config
                merged.parse_env |= one.parse_env
            return merged

    @classmethod
    @override
    def cb_test(cls, ctx: Any, param: Any, value: str) -> None:
        if value == CliTestOptionValue.Disabled.value:
            return
        use_utf8()
        with reported(cls.logger, SECRETS):
            config = ctx.params["config"]
            tap = cls(config=config.config, parse_env_config=config.parse_env)
            if value == CliTestOptionValue.Schema.value:
                tap.write_schemas()
            else:
                for stream in tap.streams.values():
                    stream.selected = True
                tap.prepare()
                tap.run_connection_test()
        ctx.exit()

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> NoReturn:
        # no STATE for what was only half emitted, and no success where there was none
        raise SystemExit(128 + signal.Signals(signum))
