"""OpenAPI documents of products whose calls are held against them."""

import json
from collections.abc import Mapping
from hashlib import blake2b

from gateway.catalogue.route import merged
from gateway.catalogue.template import TemplateError
from gateway.traffic.openapi.contract import Contract
from gateway.traffic.openapi.document import WrongDocument
from wherry.config.document import documents
from wherry.errors import ConfigError
from wherry.model.product import ApiProduct
from wherry.model.world import World

MAX_DOCUMENT = 8 << 20
"""Most bytes of a document's file."""


class Contracts:
    """Compiles documents, each as long as it stays the same once."""

    def __init__(self) -> None:
        self._made: dict[bytes, Contract] = {}

    def of(self, world: World) -> Mapping[str, Contract]:
        """Return the contract of each product that has one to keep to, by name; reads files.

        Raises:
            TemplateError: A document cannot be read or used.
        """
        found: dict[str, Contract] = {}
        kept: dict[bytes, Contract] = {}
        for name, product in world.products.items():
            if product.spec.openapi is None or not _validates(product):
                continue
            source = _source(world, product)
            digest = blake2b(source, digest_size=16).digest()
            made = kept.get(digest) or self._made.get(digest) or _compiled(product, source)
            found[name] = kept[digest] = made
        self._made = kept
        return found


def _validates(product: ApiProduct) -> bool:
    return any(
        merged(product.spec.traffic, route.traffic).validate_ is not None
        for route in product.spec.routes
    )


def _source(world: World, product: ApiProduct) -> bytes:
    given = product.spec.openapi
    if not isinstance(given, str):
        return json.dumps(given).encode()
    path = world.origin("ApiProduct", product.name).folder / given
    try:
        with path.open("rb") as file:
            source = file.read(MAX_DOCUMENT + 1)
    except OSError as error:
        raise _wrong(product, f"{error.strerror}", "an OpenAPI document to read") from None
    if len(source) > MAX_DOCUMENT:
        raise _wrong(product, "a longer document", f"at most {MAX_DOCUMENT} bytes")
    return source


def _compiled(product: ApiProduct, source: bytes) -> Contract:
    try:
        return Contract.of(_read(product, source))
    except ConfigError as error:
        first = error.problems[0]
        found = f"line {first.line}: {first.found}"
        raise _wrong(product, found, first.expected) from None
    except WrongDocument as error:
        found, _, expected = str(error).partition(", expected ")
        raise _wrong(product, found, expected) from None


def _read(product: ApiProduct, source: bytes) -> Mapping[str, object]:
    """Return the one document in ``source``.

    Raises:
        ConfigError: It cannot be read.
        TemplateError: It is no document, or several.
    """
    if isinstance(product.spec.openapi, dict):
        return product.spec.openapi
    try:
        found = documents(source.decode())
    except UnicodeDecodeError:
        raise _wrong(product, "bytes that are no UTF-8", "JSON or YAML") from None
    if len(found) != 1 or not isinstance(found[0].data, dict):
        raise _wrong(product, f"{len(found)} documents", "one OpenAPI document")
    return found[0].data


def _wrong(product: ApiProduct, found: str, expected: str) -> TemplateError:
    given = product.spec.openapi
    return TemplateError(
        product.name, given if isinstance(given, str) else "openapi", found, expected
    )
