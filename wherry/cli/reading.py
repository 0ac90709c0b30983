"""Reads a configuration as `wherry.config` does, and asks the services what they make of it."""

import logging
from pathlib import Path

from gateway.catalogue import Catalogue, TemplateError
from wherry.config import load
from wherry.errors import ConfigError, Problem
from wherry.model.world import World

logger = logging.getLogger(__name__)


def read(source: Path) -> World:
    """Return the `World` of ``source``.

    Raises:
        ConfigError: It is wrong by itself, or a service cannot use it.
    """
    world = load(source)
    try:
        Catalogue.of(world)
    except TemplateError as error:
        origin = world.origin("ApiProduct", error.product)
        found, _, expected = str(error).rpartition(", expected ")
        raise ConfigError([Problem(origin.file, origin.line, found, expected)]) from None
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
    return world
