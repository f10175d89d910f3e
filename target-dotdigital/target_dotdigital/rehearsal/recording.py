"""An API client that remembers what dotdigital answered about imports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from target_dotdigital.dotdigital.client import Client
from target_dotdigital.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from target_dotdigital.clock import Clock
    from target_dotdigital.dotdigital.messages import ImportStatus


class RecordingClient(Client):
    """Calls like `Client`, and keeps the responses about imports.

    Attributes:
        submitted: IDs of the imports that dotdigital accepted, in order.
        statuses: last status of each import.
        polls: number of status reads of each import.
        refusal: the error of the last import that dotdigital did not accept.
    """

    def __init__(self, base_url: str, user: str, password: str, timeout: int, clock: Clock) -> None:
        """Start without records."""
        super().__init__(base_url, user, password, timeout, clock)
        self.submitted: list[str] = []
        self.statuses: dict[str, ImportStatus] = {}
        self.polls: dict[str, int] = {}
        self.refusal: ApiError | None = None

    def start_import(self, body: bytes, before_retry: Callable[[], None]) -> str:
        """Submit an import like `Client.start_import`."""
        try:
            import_id = super().start_import(body, before_retry)
        except ApiError as error:
            self.refusal = error
            raise
        self.submitted.append(import_id)
        return import_id

    def import_status(self, import_id: str) -> ImportStatus:
        """Poll an import like `Client.import_status`."""
        self.polls[import_id] = self.polls.get(import_id, 0) + 1
        status = super().import_status(import_id)
        self.statuses[import_id] = status
        return status

    def limit_of(self, kind: str) -> tuple[str, int] | None:
        """Return scope and calls per minute of a kind of calls, or None if no response has named them."""
        scope = self._scopes.get(kind)
        limit = self.limits.get(scope) if scope else None
        return None if scope is None or limit is None else (scope, limit)
