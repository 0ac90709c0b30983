"""Finds the OpenAPI document of a product: in it, or in a file beside it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway.portal.reference.operations import Operation, of_routes, operations
from gateway.recent import Recent
from wherry.config.document import documents
from wherry.errors import ConfigError
from wherry.model.product import ApiProduct
from wherry.model.world import World

logger = logging.getLogger(__name__)

MAX_BYTES = 4 << 20
"""Most bytes of a document."""

_KEPT = 64


class Shelf:
    """The operations of products, read again when their document changes."""

    def __init__(self) -> None:
        self._read: Recent[tuple[object, ...], Sequence[Operation]] = Recent(_KEPT)
        self._inline: Recent[str, tuple[ApiProduct, Sequence[Operation]]] = Recent(_KEPT)

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
            return self._read.of(key, lambda: operations(_document(path), product.spec))
        except (OSError, ValueError, ConfigError) as error:
            logger.warning(
                "openapi document unreadable",
                extra={"product": product.name, "cause": type(error).__name__},
            )
            return of_routes(product.spec)

    def _from(self, product: ApiProduct, given: Mapping[str, object]) -> Sequence[Operation]:
        held = self._inline.get(product.name)
        if held is None or held[0] is not product:
            held = product, operations(given, product.spec)
            self._inline.put(product.name, held)
        return held[1]


def _document(path: Path) -> Mapping[str, object]:
    """Read the one document of a file, in YAML or JSON.

    Raises:
        ConfigError: It cannot be read, or is too large or too deep.
        OSError: There is no such file.
        ValueError: It holds something else.
    """
    with path.open("rb") as file:
        body = file.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise ValueError(f"document {path.name}: over {MAX_BYTES} bytes, expected fewer")
    found = [each.data for each in documents(body.decode())]
    if len(found) == 1 and isinstance(found[0], dict) and "openapi" in found[0]:
        return found[0]
    raise ValueError(f"document {path.name}: no OpenAPI document, expected one")
