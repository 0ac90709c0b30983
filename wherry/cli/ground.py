"""What every part that runs by itself stands on: the Store, and the World of files and Store."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from wherry.cli import stores
from wherry.cli.owned import owned
from wherry.cli.reading import check
from wherry.cli.settings import Options
from wherry.config.watch import Worlds
from wherry.resources import Resources
from wherry.resources.follow import follow
from wherry.store import Store, opened


@dataclass(frozen=True, slots=True)
class Ground:
    """What all parts stand on.

    Attributes:
        options: What the operator asked for.
        url: Of the Store; it may hold a password.
        store: What the parts share.
        resources: Writes what ``worlds`` then shows.
        worlds: The configuration that serves, followed.
    """

    options: Options
    url: str
    store: Store
    resources: Resources
    worlds: Worlds


@asynccontextmanager
async def ground(options: Options) -> AsyncIterator[Ground]:
    """Open the Store, read the configuration and follow it until the block ends.

    Raises:
        ConfigError: The configuration is wrong.
        StartError: The Store cannot be used.
    """
    options.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with AsyncExitStack() as stack:
        url = stores.chosen(options.state, options.store)
        store = await stack.enter_async_context(opened(url))
        stores.note(options.state, url)
        resources = Resources(store, options.source, check=check)
        worlds = Worlds(await resources.world())
        tasks = await stack.enter_async_context(owned())
        tasks.spawn(follow(store, options.source, worlds, check=check), "configuration")
        yield Ground(options, url, store, resources, worlds)
