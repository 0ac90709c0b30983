"""An answer that streams events, as one HTTP response."""

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import ClientConnectionResetError, web

from faas.api import frames
from faas.api.asked import Answered
from faas.api.model import OperationModel, ServiceModel
from faas.api.serialize import event_members, reply
from faas.lambda_errors import LambdaError


class ResponseSink:
    """Writes events as they come; see `faas.api.asked.EventSink`.

    Args:
        request: Whose response it is.
        model: Of the service.
        operation: Whose output has the events.
        answered: What the operation said of status and headers.
        headers: Of every response.
    """

    def __init__(
        self,
        request: web.Request,
        model: ServiceModel,
        operation: OperationModel,
        answered: Answered,
        headers: Mapping[str, str],
    ) -> None:
        self._request = request
        self._model = model
        self._operation = operation
        self._answered = answered
        self._headers = headers
        self._response: web.StreamResponse | None = None
        self._gone = False
        stream = model.shape(operation.output.members[operation.events])
        self._shapes = {name: model.shape(member) for name, member in stream.members.items()}

    @property
    def begun(self) -> bool:
        """Whether status and headers are on their way."""
        return self._response is not None

    async def begin(self, members: Mapping[str, Any]) -> None:
        """See `faas.api.asked.EventSink.begin`."""
        answered = Answered(members, self._answered.status, self._answered.headers)
        head = reply(self._model, self._operation, answered)
        headers = {**head.headers, **self._headers, "Content-Type": frames.CONTENT_TYPE}
        self._response = web.StreamResponse(status=head.status, headers=headers)
        try:
            await self._response.prepare(self._request)
        except ClientConnectionResetError:
            self._gone = True

    async def send(self, event: str, members: Mapping[str, Any]) -> None:
        """See `faas.api.asked.EventSink.send`."""
        kind, payload = event_members(self._model, self._shapes[event], members)
        await self._write(frames.event(event, kind, payload))

    async def fail(self, error: LambdaError) -> None:
        """End a stream that has begun with an error of the model."""
        body = json.dumps({"message": str(error)}).encode()
        await self._write(frames.exception(error.code, body))

    async def end(self) -> web.StreamResponse:
        """Return the response, complete."""
        if self._response is None:
            await self.begin({})
        assert self._response is not None  # noqa: S101
        if not self._gone:
            try:
                await self._response.write_eof()
            except ClientConnectionResetError:
                self._gone = True
        return self._response

    async def _write(self, message: bytes) -> None:
        if self._response is None or self._gone:
            return
        try:
            await self._response.write(message)
        except ClientConnectionResetError:
            self._gone = True
