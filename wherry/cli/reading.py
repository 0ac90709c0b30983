"""Reads a configuration as `wherry.config` does, and asks the services what they make of it."""

import logging
from collections.abc import Iterator
from pathlib import Path

from gateway.catalogue import Catalogue, TemplateError
from wherry.config import load
from wherry.errors import ConfigError, Problem, WherryError
from wherry.model.world import World

logger = logging.getLogger(__name__)


def read(source: Path) -> World:
    """Return the `World` of ``source``.

    Raises:
        ConfigError: It is wrong by itself, or a service cannot use it.
    """
    world = load(source)
    check(world)
    return world


def check(world: World) -> None:
    """Ask the services what they make of ``world``.

    Raises:
        ConfigError: One cannot use it.
    """
    try:
        Catalogue.of(world)
    except TemplateError as error:
        origin = world.origin("ApiProduct", error.product)
        found, _, expected = str(error).rpartition(", expected ")
        raise ConfigError([Problem(origin.file, origin.line, found, expected)]) from None
    if problems := [problem for name in world.functions for problem in _of_function(world, name)]:
        raise ConfigError(problems)
    for product in world.products.values():
        for route in product.spec.routes:
            name = route.to.function
            if name is not None and name not in world.functions:
                logger.warning(
                    "%s: product %s leads to function %s, which is not declared here; "
                    "until it is deployed its calls get 503",
                    world.origin("ApiProduct", product.name),
                    product.name,
                    name,
                )


def _of_function(world: World, name: str) -> Iterator[Problem]:
    """Say what Lambda would not have of a function that by itself is well written."""
    from faas.functions.declared import Declared  # noqa: PLC0415
    from faas.schedules.expression import BadSchedule, parsed  # noqa: PLC0415

    origin = world.origin("Function", name)
    declared = Declared.of(world.functions[name], origin.folder)
    try:
        declared.settings()
    except WherryError as error:
        found = f"function {name}: {str(error).rstrip('.')}"
        yield Problem(origin.file, origin.line, found, "what Lambda takes")
    for text in declared.schedule:
        try:
            parsed(text)
        except BadSchedule as error:
            found, _, expected = str(error).partition(", expected ")
            yield Problem(origin.file, origin.line, f"function {name}: {found}", expected)
