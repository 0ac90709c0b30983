"""Finds the OpenAPI document of a product: in it, or in a file beside it."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from gateway.portal.reference.operations import Operation, of_routes, operations
from wherry.model.product import ApiProduct
from wherry.model.world import World

logger = logging.getLogger(__name__)

MAX_BYTES = 4 << 20
"""Most bytes of a document."""

_KEPT = 64
_MAX_DEPTH = 100


class Shelf:
    """The operations of products, read again when their document changes."""

    def __init__(self) -> None:
        self._read: dict[tuple[object, ...], Sequence[Operation]] = {}
        self._inline: dict[str, tuple[ApiProduct, Sequence[Operation]]] = {}

    def operations(self, world: World, product: ApiProduct) -> Sequence[Operation]:
        """Return what a product does; reads a file, so not for the event loop."""
        given = product.spec.openapi
        if isinstance(given, Mapping):
            return self._from(product, given)
        if given is None:
            return of_routes(product.spec)
        path = world.origin("ApiProduct", product.name).folder / given
        try:
            status = path.stat()
            key = (product.name, str(path), status.st_mtime_ns, status.st_size)
            if key not in self._read:
                while len(self._read) >= _KEPT:
                    self._read.pop(next(iter(self._read)))
                self._read[key] = operations(_document(path), product.spec)
            return self._read[key]
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            logger.warning(
                "openapi document unreadable",
                extra={"product": product.name, "cause": type(error).__name__},
            )
            return of_routes(product.spec)

    def _from(self, product: ApiProduct, given: Mapping[str, object]) -> Sequence[Operation]:
        held = self._inline.get(product.name)
        if held is None or held[0] is not product:
            while len(self._inline) >= _KEPT:
                self._inline.pop(next(iter(self._inline)))
            held = self._inline[product.name] = product, operations(given, product.spec)
        return held[1]


def _document(path: Path) -> Mapping[str, object]:
    with path.open("rb") as file:
        body = file.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise ValueError(f"document {path.name}: over {MAX_BYTES} bytes, expected fewer")
    found = json.loads(body) if path.suffix == ".json" else _yaml(path.name, body)
    match found:
        case Mapping():
            return found
        case _:
            raise ValueError(f"document {path.name}: no mapping, expected an OpenAPI document")


def _yaml(name: str, body: bytes) -> object:
    """Read YAML without aliases, of which a few lines could stand for more than memory holds."""
    depth = 0
    for event in yaml.parse(body, Loader=yaml.CSafeLoader):
        match event:
            case yaml.AliasEvent():
                raise ValueError(f"document {name}: an alias, expected the value itself")
            case yaml.CollectionStartEvent():
                depth += 1
            case yaml.CollectionEndEvent():
                depth -= 1
            case _:
                continue
        if depth > _MAX_DEPTH:
            raise ValueError(f"document {name}: {depth} deep, expected at most {_MAX_DEPTH}")
    return yaml.load(body, Loader=yaml.CSafeLoader)
