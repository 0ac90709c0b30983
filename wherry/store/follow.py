"""Keep up with the Store, whatever happens to it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from wherry.errors import WherryError
from wherry.store import Store, View

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
"""How long a store that fails is left alone."""


async def follow(
    store: Store, prefix: str, take: Callable[[View], Awaitable[None]], *, what: str
) -> None:
    """Hand every view under ``prefix`` to ``take``, the one of now first, until cancelled.

    While the store fails, or ``take`` does with an error of ours, what was taken last counts; that
    is logged once, and tried again every `RETRY_SECONDS`.

    Args:
        store: What is followed.
        prefix: See `Store.watch`.
        take: Takes a view.
        what: Names the records in the log.
    """
    failing = False
    while True:
        try:
            async for view in store.watch(prefix):
                await take(view)
                if failing:
                    logger.info("%s are followed again", what)
                failing = False
        except WherryError as error:
            if not failing:
                logger.warning("%s cannot be followed", what, extra={"why": str(error)})
            failing = True
        await asyncio.sleep(RETRY_SECONDS)
