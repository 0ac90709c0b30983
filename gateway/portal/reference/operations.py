"""The operations of an OpenAPI document, or of a product that has none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.portal.reference.schema import Refs, Row, example, kind, rows, shown
from wherry.model.product import ApiProductSpec

MAX_OPERATIONS = 500
"""Most operations that a page shows."""

REST = "rest of the path"
"""Kind of a parameter that stands for any number of segments."""

METHODS = ("get", "post", "put", "patch", "delete", "head", "options", "trace")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an operation.

    Attributes:
        where: ``path``, ``query``, ``header`` or ``cookie``.
        sample: A value to begin with; empty when the document gives none.
    """

    name: str
    where: str
    kind: str
    required: bool
    about: str
    sample: str


@dataclass(frozen=True, slots=True)
class Content:
    """A body.

    Attributes:
        media: Its media type.
        kind: Its type in words.
        rows: Its members.
        sample: An example of it.
    """

    media: str
    kind: str
    rows: Sequence[Row]
    sample: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What an operation may answer."""

    status: str
    about: str
    content: Content | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that an API does.

    Attributes:
        id: Unique within the product; part of links.
        method: In capitals.
        path: As the gateway knows it, with ``{name}`` for parameters.
        group: The first tag; empty without one.
    """

    id: str
    method: str
    path: str
    title: str
    about: str
    group: str
    deprecated: bool
    parameters: Sequence[Parameter]
    body: Content | None
    replies: Sequence[Reply]


def operations(document: Mapping[str, object], product: ApiProductSpec) -> Sequence[Operation]:
    """Return the operations of a document, with their paths as the gateway knows them."""
    refs = Refs(document)
    known = {route.path for route in product.routes}
    ahead = _server_path(document)
    found: list[Operation] = []
    for path, item in _items(document.get("paths")):
        shared = refs.resolved(item)
        seen = path if path in known or ahead + path not in known else ahead + path
        for method in METHODS:
            if not isinstance(given := shared.get(method), Mapping):
                continue
            if len(found) == MAX_OPERATIONS:
                return found
            found.append(_operation(refs, (method, seen), given, _listed(shared, "parameters")))
    return found


def of_routes(product: ApiProductSpec) -> Sequence[Operation]:
    """Return the routes of a product that has no document."""
    found = []
    for route in product.routes:
        names = [part.partition("}")[0] for part in route.path.split("{")[1:]]
        path = route.path.replace("+}", "}")
        parameters = [
            Parameter(
                name.rstrip("+"), "path", REST if name.endswith("+") else "string", True, "", ""
            )
            for name in names
        ]
        for method in route.methods or ["GET"]:
            identity = route.operation or f"{method} {route.path}"
            found.append(
                Operation(
                    identity,
                    method,
                    path,
                    route.operation or f"{method} {path}",
                    "",
                    "",
                    False,
                    parameters,
                    None,
                    (),
                )
            )
    return found[:MAX_OPERATIONS]


def _operation(
    refs: Refs, place: tuple[str, str], given: Mapping[str, object], shared: Sequence[object]
) -> Operation:
    method, path = place
    identity = str(given.get("operationId") or f"{method.upper()} {path}")
    title = str(given.get("summary") or given.get("operationId") or f"{method.upper()} {path}")
    tags = _listed(given, "tags")
    parameters: dict[tuple[str, str], Parameter] = {}
    for each in (*shared, *_listed(given, "parameters")):
        parameter = _parameter(refs, refs.resolved(each))
        parameters[parameter.where, parameter.name] = parameter
    return Operation(
        identity,
        method.upper(),
        path,
        title,
        str(given.get("description") or ""),
        str(tags[0]) if tags else "",
        given.get("deprecated") is True,
        list(parameters.values()),
        _content(refs, refs.resolved(given.get("requestBody")).get("content")),
        list(_replies(refs, given.get("responses"))),
    )


def _parameter(refs: Refs, given: Mapping[str, object]) -> Parameter:
    schema = given.get("schema")
    sample = given.get("example", refs.resolved(schema).get("example", ""))
    return Parameter(
        str(given.get("name", "")),
        str(given.get("in", "query")),
        kind(refs, schema),
        given.get("required") is True,
        str(given.get("description") or ""),
        str(sample),
    )


def _content(refs: Refs, given: object) -> Content | None:
    media = dict(_items(given))
    if not media:
        return None
    name = next((each for each in media if "json" in each), next(iter(media)))
    held = refs.resolved(media[name])
    schema = held.get("schema")
    sample = held.get("example", example(refs, schema))
    for _, each in _items(held.get("examples")):
        sample = refs.resolved(each).get("value", sample)
        break
    return Content(name, kind(refs, schema), rows(refs, schema), shown(sample))


def _replies(refs: Refs, given: object) -> Iterator[Reply]:
    for status, each in _items(given):
        reply = refs.resolved(each)
        about = str(reply.get("description") or "")
        yield Reply(status, about, _content(refs, reply.get("content")))


def _items(given: object) -> Iterator[tuple[str, object]]:
    if isinstance(given, Mapping):
        for key, value in given.items():
            yield str(key), value


def _listed(given: Mapping[str, object], key: str) -> Sequence[object]:
    found = given.get(key)
    return found if isinstance(found, list) else ()


def _server_path(document: Mapping[str, object]) -> str:
    servers = _listed(document, "servers")
    url = servers[0].get("url") if servers and isinstance(servers[0], Mapping) else None
    try:
        return urlsplit(str(url or "")).path.rstrip("/")
    except ValueError:
        return ""
