"""Options that belong to commands, such as `--limit` to `--runs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_META = "target_dotdigital.companions"


class Companion(click.Option):
    """An option that is valid only beside one of its commands; it is read first, and becomes part of the command's request.

    Without this check, the option alone would start a sync.

    Args:
        declarations: as for `click.Option`.
        owners: parameter names of the commands.
        settings: as for `click.Option`.
    """

    def __init__(self, declarations: list[str], owners: tuple[str, ...], **settings: Any) -> None:
        super().__init__(declarations, **{"is_eager": True, "expose_value": False, "callback": _remember, **settings})
        self._owners = owners

    def handle_parse_result(self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]) -> tuple[Any, list[str]]:
        """Refuse the option if none of its commands is given.

        Raises:
            click.UsageError: none is.
        """
        if self.name in opts and not any(owner in opts for owner in self._owners):
            commands = " or ".join(f"--{owner}" for owner in self._owners)
            msg = f"{self.opts[0]} belongs to {commands}, so nothing was done."
            raise click.UsageError(msg, ctx)
        return super().handle_parse_result(ctx, opts, args)


def command_option(name: str, request: Callable[..., object], *companions: str, **settings: Any) -> click.Option:
    """Return the option of a command, whose value is the command's request; None if the command is not given.

    Args:
        name: name of the option, with its dashes.
        request: makes the request of the option's own value, if it takes one, and of companions by name.
        companions: parameter names of the companions that the command knows.
        settings: as for `click.Option`.
    """

    def build(context: click.Context, _option: click.Parameter, value: Any) -> object:
        if value is None or value is False:
            return None
        given = {one: kept for one, kept in context.meta.get(_META, {}).items() if one in companions and kept is not None}
        return request(**given) if value is True else request(value, **given)

    return click.Option([name], callback=build, **settings)


def _remember(context: click.Context, option: click.Parameter, value: Any) -> Any:
    context.meta.setdefault(_META, {})[option.name] = value
    return value
