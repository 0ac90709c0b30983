"""Reads a configuration as `wherry.config` does, and asks the services what they make of it."""

from pathlib import Path

from gateway.catalogue import Catalogue, TemplateError
from wherry.config import load
from wherry.errors import ConfigError, Problem
from wherry.model.world import World


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
    return world
