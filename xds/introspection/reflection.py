"""gRPC server reflection, under its name of today and the older one.

Source: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

import asyncio
from collections.abc import Callable, Mapping

import grpc
import grpc.aio

from xds.introspection import wire
from xds.introspection.descriptors import Descriptors

NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")

STREAMS = 16
"""Most streams at once; more are refused with RESOURCE_EXHAUSTED."""
IDLE_SECONDS = 60.0
"""Longest that a stream may stay silent."""
MAX_BYTES = 8 << 10
"""Longest question."""

Context = grpc.aio.ServicerContext[bytes, bytes]


class Reflection:
    """Answers what ``descriptors`` know.

    Args:
        descriptors: See `Descriptors`.
        streams: Most streams at once.
        idle_seconds: Longest that a stream may stay silent.
    """

    def __init__(
        self,
        descriptors: Descriptors,
        *,
        streams: int = STREAMS,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._descriptors = descriptors
        self._most, self._idle_seconds = streams, idle_seconds
        self._open = 0

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return what a gRPC server needs to route streams here, one for each of `NAMES`."""
        stream: grpc.RpcMethodHandler[bytes, bytes]
        stream = grpc.stream_stream_rpc_method_handler(self._stream)
        methods = {"ServerReflectionInfo": stream}
        return tuple(grpc.method_handlers_generic_handler(name, methods) for name in NAMES)

    def answer(self, raw: bytes) -> bytes:
        """Return the ServerReflectionResponse to a ServerReflectionRequest.

        Raises:
            BadQuestion: It is none, or too long.
        """
        if len(raw) > MAX_BYTES:
            raise wire.BadQuestion(f"reflection: {len(raw)} bytes, expected at most {MAX_BYTES}")
        question = wire.question_from(raw)
        return _ANSWERS[question.kind](self._descriptors, question)

    async def _stream(self, _requests: object, context: Context) -> None:
        self._open += 1
        try:
            if self._open > self._most:
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"reflection: {self._open} streams, expected at most {self._most}",
                )
            while (raw := await self._read(context)) is not None:
                await context.write(self.answer(raw))
        except wire.BadQuestion as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            self._open -= 1

    async def _read(self, context: Context) -> bytes | None:
        try:
            async with asyncio.timeout(self._idle_seconds):
                raw = await context.read()
        except TimeoutError:
            return None
        return raw if isinstance(raw, bytes) else None


def _services(descriptors: Descriptors, question: wire.Question) -> bytes:
    return wire.services_bytes(question, descriptors.services)


def _file(descriptors: Descriptors, question: wire.Question) -> bytes:
    return _files(question, descriptors.file(question.name))


def _symbol(descriptors: Descriptors, question: wire.Question) -> bytes:
    return _files(question, descriptors.containing(question.name))


def _extensions(descriptors: Descriptors, question: wire.Question) -> bytes:
    if descriptors.has_message(question.name):
        return wire.no_extensions_bytes(question)
    return _files(question, None)


def _extension(_: Descriptors, question: wire.Question) -> bytes:
    return _files(question, None)


def _files(question: wire.Question, files: tuple[bytes, ...] | None) -> bytes:
    if files is not None:
        return wire.files_bytes(question, files)
    code = int(grpc.StatusCode.NOT_FOUND.value[0])
    return wire.error_bytes(
        question, code, f"{question.kind} {question.name!r}: unknown, expected a name of ours"
    )


_ANSWERS: Mapping[str, Callable[[Descriptors, wire.Question], bytes]] = {
    "list_services": _services,
    "file_by_filename": _file,
    "file_containing_symbol": _symbol,
    "file_containing_extension": _extension,
    "all_extension_numbers_of_type": _extensions,
}
