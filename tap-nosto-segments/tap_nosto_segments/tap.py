"""The Singer tap."""

from __future__ import annotations

import contextlib
import datetime
import signal
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from singer_sdk import Tap
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities, TapCapabilities
from typing_extensions import override

from tap_nosto_segments.environment import read_settings
from tap_nosto_segments.errors import SettingsError
from tap_nosto_segments.extraction import open_extraction
from tap_nosto_segments.nosto.client import NostoClient
from tap_nosto_segments.settings import Settings, json_schema
from tap_nosto_segments.stream_maps import digest_of, require_mapped_streams, require_marks_of_removal
from tap_nosto_segments.streams import STREAMS, ContactSegmentsStream, ExportStream, SegmentsStream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from singer_sdk import Stream


class TapNostoSegments(Tap):
    """Extracts the segments of each contact, and what changed since the last run, from Nosto's Segment Export."""

    name = "tap-nosto-segments"
    config_jsonschema: ClassVar[dict[str, Any]] = json_schema()
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        TapCapabilities.CATALOG,
        TapCapabilities.STATE,
        TapCapabilities.DISCOVER,
        TapCapabilities.ACTIVATE_VERSION,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    def __init__(self, *, config: Any = None, parse_env_config: bool = False, **options: Any) -> None:
        """Read the settings, in place of the SDK, which reads an unrecognised text as false."""
        schema = self.config_jsonschema
        self.append_builtin_config(schema)
        settings = read_settings(config or {}, schema, from_environment=parse_env_config)
        super().__init__(config=settings, **options)

    @classmethod
    @override
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        super().append_builtin_config(config_jsonschema)
        # flattening would turn the list of names into text; the SDK adds its settings to every tap, regardless of the capabilities
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
        return [stream(self) for stream in STREAMS]

    @cached_property
    def settings(self) -> Settings:
        """The validated settings.

        Raises:
            SettingsError: a setting is invalid, or two settings contradict each other.
        """
        return Settings.from_config(self.config)

    @contextlib.contextmanager
    def extracting(self) -> Iterator[None]:
        """Fetch, check, store and compare the export, so that errors occur before the first message. Synchronise within the block.

        Raises:
            TapError: the run cannot continue; nothing was emitted.
        """
        self.require_safe_maps()
        streams = self.selected_streams
        if not streams:
            msg = "The catalog (--catalog) selects no stream, so there is nothing to do. Select contact_segments in it, or omit --catalog."
            raise SettingsError(msg)
        client = NostoClient(self.settings.request_timeout, self.sleep)
        with open_extraction(self.settings, client, self.now, maps=self.maps_digest, bookmarks=self.bookmarks) as extraction:
            for stream in streams:
                stream.prepare(extraction)
            yield

    def require_safe_maps(self) -> None:
        """Reject stream maps for unknown streams, and those by which removed contacts would keep their segments.

        Raises:
            SettingsError: stream_maps cannot be used.
        """
        stream_maps = self.config.get("stream_maps") or {}
        require_mapped_streams(stream_maps, list(self.streams))
        for stream in self._contact_streams:
            require_marks_of_removal(stream_maps, stream.name, is_dropped=stream.is_dropped)

    @property
    def maps_digest(self) -> str | None:
        """A digest of the stream maps and the property selection of the contacts; None if no contacts are emitted."""
        return next((digest_of(self.config, stream.name, stream.deselected) for stream in self._contact_streams), None)

    @property
    def bookmarks(self) -> list[str | None]:
        """The snapshot IDs in the bookmarks of the selected incremental streams."""
        return [stream.bookmark for stream in self.selected_streams if stream.replication_method == "INCREMENTAL"]

    @property
    def selected_streams(self) -> list[ExportStream]:
        """The streams that a run emits."""
        return [stream for stream in self.streams.values() if isinstance(stream, ExportStream) and stream.selected]

    @property
    def needs_catalogue(self) -> bool:
        """Whether a run stops if Nosto's catalogue cannot be read."""
        return any(isinstance(stream, SegmentsStream) for stream in self.selected_streams)

    @property
    def _contact_streams(self) -> list[ExportStream]:
        return [stream for stream in self.selected_streams if isinstance(stream, ContactSegmentsStream)]

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> NoReturn:
        # the SDK would emit a STATE for half an export, and exit with 0
        raise SystemExit(128 + signal.Signals(signum))
