"""The Singer tap."""

from __future__ import annotations

import datetime
import os
import signal
import sys
import time
import traceback
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from singer_sdk import Tap
from singer_sdk.exceptions import ConfigValidationError
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities, TapCapabilities
from typing_extensions import override

from tap_nosto_segments.config import CONFIG
from tap_nosto_segments.errors import TapError
from tap_nosto_segments.extraction import Extraction
from tap_nosto_segments.nosto import Nosto
from tap_nosto_segments.settings import Settings
from tap_nosto_segments.streams import SNAPSHOT, ContactSegmentsStream, ExportStream, SegmentChangesStream, SegmentsStream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from singer_sdk import Stream


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
        """Wait between two tries; tests put their own in its place."""
        time.sleep(seconds)

    @staticmethod
    def now() -> datetime.datetime:
        """Give the time in UTC; tests put their own in its place."""
        return datetime.datetime.now(datetime.UTC)

    @override
    def discover_streams(self) -> Sequence[Stream]:
        return [ContactSegmentsStream(self), SegmentChangesStream(self), SegmentsStream(self)]

    @cached_property
    def settings(self) -> Settings:
        """The settings, checked.

        Raises:
            SettingsError: they contradict each other.
        """
        return Settings.of(self.config)

    @cached_property
    def extraction(self) -> Extraction:
        """The run's export, fetched by the first stream that asks."""
        bookmarks = [
            stream.stream_state.get(SNAPSHOT)
            for stream in self.streams.values()
            if stream.selected and isinstance(stream, ExportStream) and stream.replication_key
        ]
        return Extraction(self.settings, bookmarks, Nosto(self.settings.request_timeout, self.sleep), self.now)

    @classmethod
    @override
    def invoke(cls, **kwargs: Any) -> None:
        os.umask(0o077)
        try:
            super().invoke(**kwargs)
        except ConfigValidationError:
            raise  # the SDK says each problem on a line of its own
        except TapError as error:
            _stop(cls, str(error))
        except BrokenPipeError:
            # the loader is gone and says why itself
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _stop(cls, "The loader stopped reading: the run ends here, and the bookmark stays. See the loader's own message.")
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            cls.logger.debug("The defect in full", exc_info=True)
            place = f"{os.path.basename(frame.filename)}, line {frame.lineno}"  # noqa: PTH119 - a text, not a file
            _stop(cls, f"Unexpected {type(error).__name__} ({place}): a defect. The bookmark stays; please report it.")

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> NoReturn:
        # no STATE for what was only half emitted, and no success where there was none
        raise SystemExit(128 + signal.Signals(signum))


def _stop(plugin: type[Tap], message: str) -> NoReturn:
    plugin.logger.error(message)
    raise SystemExit(1)
