"""Tokens that only the server that gave them can read.

Source: RFC 6750, RFC 7662
"""

import asyncio
import logging

from gateway.authn import tokens
from gateway.authn.bearer import Bearer, caller_of
from gateway.authn.check import Callers, Wrong
from gateway.authn.memory import Memory, digest
from gateway.authn.tokens import MAX_TOKEN
from gateway.authn.web import Unreachable, Web
from gateway.call import Caller, Head
from gateway.problem import out_of_capacity
from wherry.clock import Clock
from wherry.model.authentication import Introspection
from wherry.model.resource import seconds

logger = logging.getLogger(__name__)

_Answer = tuple[Caller | None] | None
"""Whose a token is, if anybody's; None: its server did not say."""


class ByOpaqueToken(Bearer):
    """A token that another server knows about; see `Check`. Any Bearer token is meant by it.

    Args:
        method: As it is written.
        secret: With which that server is asked.
        web: How it is reached.
        callers: Makes callers.
        clock: Where the time is read.
        tasks: Own the questions.
    """

    def __init__(
        self,
        method: Introspection,
        secret: str,
        *,
        web: Web,
        callers: Callers,
        clock: Clock,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._method, self._secret, self._web = method, secret, web
        self._callers, self._clock, self._tasks = callers, clock, tasks
        self._lasts = seconds(method.cache)
        self._memory: Memory[Caller | None] = Memory()
        self._asking: dict[bytes, asyncio.Task[_Answer]] = {}

    def quick(self, head: Head, shown: str) -> Caller | None:
        """See `Check.quick`."""
        del head
        if not 0 < len(shown) <= MAX_TOKEN:
            raise Wrong(error="invalid_token")
        known = self._memory.get(shown, self._now(), self._callers.directory)
        return None if known is None else _counted(known.found)

    async def slow(self, head: Head, shown: str) -> Caller:
        """See `Check.slow`; all who show the same token meanwhile wait for the same answer."""
        del head
        name = digest(shown)
        task = self._asking.get(name)
        if task is None:
            task = self._tasks.create_task(self._asked(shown), name="gateway: introspect")
            self._asking[name] = task
            task.add_done_callback(lambda _: self._asking.pop(name, None))
        answer = await asyncio.shield(task)
        if answer is None:
            raise out_of_capacity("The server that knows the token cannot be asked.")
        return _counted(answer[0])

    async def _asked(self, token: str) -> _Answer:
        form = {"token": token, "token_type_hint": "access_token"}
        user = self._method.client_id
        try:
            answer = await self._web.post(self._method.url, form, user=user, password=self._secret)
        except Unreachable as error:
            logger.warning("a token cannot be asked about: %s", error)
            return None
        except Exception:
            logger.exception("a token cannot be asked about")
            return None
        now, directory = self._now(), self._callers.directory
        until, caller = now + self._lasts, None
        ends = answer.get("exp", until)
        fit = isinstance(ends, int | float) and now < ends
        if (
            answer.get("active") is True
            and fit
            and answer.get("iss") in {None, self._method.issuer}
        ):
            until = min(until, float(ends))
            granted = tokens.scopes(answer, "scope")
            try:
                caller = caller_of(answer, self._method, granted, directory)
            except Wrong:
                caller = None
        self._memory.put(token, caller, until, directory)
        return (caller,)

    def _now(self) -> float:
        return self._clock.unix_ns() / 1e9


def _counted(caller: Caller | None) -> Caller:
    if caller is None:
        raise Wrong("The token does not count.", error="invalid_token")
    return caller
