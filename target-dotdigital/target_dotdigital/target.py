"""The Singer target."""

from __future__ import annotations

import gc
import os
import signal
import traceback
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

import sqlalchemy as sa
from singer_sdk import Target
from singer_sdk.exceptions import ConfigValidationError, InvalidRecord, MissingKeyPropertiesError, RecordsWithoutSchemaException
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities
from singer_sdk.mapper import SameRecordTransform
from singer_sdk.singerlib.exceptions import InvalidInputLine
from typing_extensions import override

from target_dotdigital.commands import COMMANDS, options
from target_dotdigital.config import CONFIG
from target_dotdigital.errors import StreamError, TargetError
from target_dotdigital.ledger import fail
from target_dotdigital.reader import Lane, Reader
from target_dotdigital.retry import Clock
from target_dotdigital.session import Session
from target_dotdigital.settings import Settings
from target_dotdigital.sinks import ContactSink

if TYPE_CHECKING:
    from types import FrameType

    import click
    from singer_sdk import Sink


class TargetDotdigital(Target):
    """Keeps the labels of dotdigital's contacts right: creates, updates and clears in bulk, and never touches consent."""

    name = "target-dotdigital"
    config_jsonschema: ClassVar[dict[str, Any]] = CONFIG.to_dict()
    default_sink_class = ContactSink
    message_reader_class = Reader
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]
    # what is read is never "old": nothing is delivered before the input has ended
    _MAX_RECORD_AGE_IN_MINUTES = float("inf")

    #: What waiting is measured by; tests put their own in its place.
    clock: ClassVar[type[Clock]] = Clock

    @cached_property
    def settings(self) -> Settings:
        """The settings, checked.

        Raises:
            SettingsError: they contradict each other.
        """
        return Settings.of(self.config)

    @cached_property
    def session(self) -> Session:
        """The run, opened by the first stream: logs in, reads the account, opens the ledger."""
        return Session(self.settings, self.clock())

    @classmethod
    @override
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        # past the target's own: loading, batch sizes and metadata columns have no meaning here
        super(Target, cls).append_builtin_config(config_jsonschema)

    @override
    def get_sink(self, stream_name: str, **kwargs: Any) -> Sink:
        sink = super().get_sink(stream_name, **kwargs)
        if kwargs.get("schema") is not None:
            self._open_lane(stream_name, sink)
        return sink

    def _open_lane(self, stream_name: str, sink: Sink) -> None:
        """Let the reader hand the records of this stream straight to the collector, where nothing has to be done to them."""
        lanes = cast("Reader", self.message_reader).lanes
        lanes.pop(stream_name, None)
        maps = self.mapper.stream_maps.get(stream_name, [])
        settings = self.settings
        if [type(one) for one in maps] == [SameRecordTransform] and set(sink.key_properties or ()) <= {settings.email_property}:
            take = self.session.collector.take
            lanes[stream_name] = Lane(stream_name, settings.email_property, settings.segments_property, take)

    @override
    def process_endofpipe(self) -> None:
        for stream_name, lane in cast("Reader", self.message_reader).lanes.items():
            self.get_sink(stream_name).record_counter_metric.increment(lane.taken)
        self.session.finish()
        super().process_endofpipe()

    @override
    def _process_state_message(self, message_dict: dict[str, Any]) -> None:
        super()._process_state_message(message_dict)
        if "session" in self.__dict__:
            self.session.collector.state()

    @override
    def _process_batch_message(self, message_dict: dict[str, Any]) -> None:
        msg = "The tap sends BATCH messages, which pass every check by: nothing was written. Take batch_config out of the tap's settings."
        raise StreamError(msg)

    @override
    def _write_state_message(self, state: dict[str, Any]) -> None:
        # The barrier: STATE stands for rows that dotdigital has confirmed, or refused by name.
        if self.session.acknowledged:
            super()._write_state_message(state)

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> NoReturn:
        # no drain, no STATE, and no success where there was none: the next run goes on from the ledger
        raise SystemExit(128 + signal.Signals(signum))

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        command.params.extend(options())
        return command

    @classmethod
    @override
    def invoke(cls, **kwargs: Any) -> None:
        os.umask(0o077)
        # rows come by the million and hold no cycles: looking for some after every 700 of them costs a tenth of the time
        gc.set_threshold(50_000)
        asked = {name: kwargs.pop(name) for name in COMMANDS if name in kwargs}
        run = kwargs.pop("run", None)
        try:
            for name, value in asked.items():
                if value:
                    config = kwargs["config"]
                    target = cls(config=config.config, parse_env_config=config.parse_env)
                    COMMANDS[name](target.settings, cls.clock(), run if name == "restore" else value)
                    return
            super().invoke(**kwargs)
        except ConfigValidationError:
            raise  # the SDK says each problem on a line of its own
        except TargetError as error:
            _stop(cls, str(error))
        except (InvalidInputLine, RecordsWithoutSchemaException, MissingKeyPropertiesError, InvalidRecord) as error:
            _stop(cls, f"The input is not Singer as it should be ({type(error).__name__}): nothing was written. Check the tap.")
        except sa.exc.SQLAlchemyError as error:
            try:
                fail(error)
            except TargetError as told:
                _stop(cls, str(told))
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            cls.logger.debug("The defect in full", exc_info=True)
            place = f"{os.path.basename(frame.filename)}, line {frame.lineno}"  # noqa: PTH119 - a text, not a file
            _stop(cls, f"Unexpected {type(error).__name__} ({place}): a defect. No STATE was emitted; please report it.")


def _stop(plugin: type[Target], message: str) -> NoReturn:
    plugin.logger.error(message)
    raise SystemExit(1)
