"""Products made from OpenAPI documents: a route for each operation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import ValidationError

from gateway.path import Path as Place
from gateway.path import canonical
from gateway.problem import Refused
from gateway.traffic.openapi import security
from gateway.traffic.openapi.contract import Contract, base_path, operations, server_urls
from gateway.traffic.openapi.document import Document, Path, WrongDocument, kind
from gateway.traffic.openapi.templates import VARIABLE
from wherry.model.product import ApiProduct
from wherry.model.resource import is_name

MAX_ROUTES = 1024
"""Most routes of a product."""

_NAME = re.compile(r"[^a-z0-9]+")
_MOST_NAME = 63
_OPERATION = re.compile(r"[A-Za-z0-9_.-]{1,128}", re.ASCII)
_NOT_A_VERSION = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_NOT_A_VARIABLE = re.compile(r"[^A-Za-z0-9_]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the product shall be, beside what the document says.

    Attributes:
        name: Of the product; None: made from the title.
        service: Of the mesh that it leads to.
        url: Outside server that it leads to, with the path that stands before all others; if
            none of the three is given, the first server of the document is it.
        function: That it leads to.
        plans: That it is offered under; none: one of its own, ``NAME-free``.
        openapi: What the product says its document is: its path, or all of it; None: all of it.
        validate: Whether requests are held against the document.
    """

    name: str | None = None
    service: str | None = None
    url: str | None = None
    function: str | None = None
    plans: Sequence[str] = ()
    openapi: str | None = None
    validate: bool = False


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import makes.

    Attributes:
        product: An ``ApiProduct`` document.
        plan: A ``Plan`` document, if none was named.
        notes: What of the OpenAPI document has no counterpart here.
    """

    product: dict[str, Any]
    plan: dict[str, Any] | None
    notes: tuple[str, ...]


def imported(data: Mapping[str, Any], wanted: Wanted) -> Imported:
    """Make a product from an OpenAPI 3.0 or 3.1 document.

    Paths are those that the document's first server has, its own path included.

    Raises:
        WrongDocument: The document cannot be used; the error says where and why.
    """
    document = Document.of(data)
    if wanted.validate:
        Contract.of(data)
    name = wanted.name or _name(document)
    base, to = _upstream(document, wanted)
    names, scopes, free = security.asked(document, ())
    methods, notes = security.methods(document, names)
    if free:
        notes.append("the document lets callers do without security; here all need a credential")
    routes, more = _routes(document, base, to, methods)
    plans = list(wanted.plans) or [f"{name}-free"]
    spec: dict[str, Any] = {
        **_told(document),
        "plans": plans,
        **({"authentication": methods} if methods else {}),
        "scopes": _scopes(document, routes, scopes),
        "routes": _scoped(routes, scopes),
        "openapi": dict(data) if wanted.openapi is None else wanted.openapi,
        **({"traffic": {"validate": {"requests": True}}} if wanted.validate else {}),
    }
    if not spec["scopes"]:
        del spec["scopes"]
    product = _document("ApiProduct", name, spec)
    _checked(product)
    plan = None
    if not wanted.plans:
        rate = {"requests": 60, "per": "1m"}
        plan = _document("Plan", plans[0], {"title": f"Free plan of {name}", "rate": rate})
    return Imported(product, plan, tuple(dict.fromkeys([*notes, *more])))


def _document(kind_: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "wherry.dev/v1",
        "kind": kind_,
        "metadata": {"name": name},
        "spec": spec,
    }


def _name(document: Document) -> str:
    title = document.at(("info",)).get("title")
    name = _NAME.sub("-", str(title or "").lower())[:_MOST_NAME].strip("-")
    if not name:
        found = f"a {kind(title)} that makes no name"
        raise WrongDocument(("info", "title"), found, "a title of letters, or --name")
    return name


def _told(document: Document) -> dict[str, Any]:
    info = document.at(("info",))
    version = _NOT_A_VERSION.sub("-", str(info.get("version", "1")))[:64].strip("-") or "1"
    told = {"title": str(info.get("title", ""))[:200] or None, "version": version}
    if isinstance(info.get("description"), str):
        told["description"] = info["description"][:4000]
    return {name: value for name, value in told.items() if value is not None}


def _upstream(document: Document, wanted: Wanted) -> tuple[str, dict[str, str]]:
    """Return the path before all others, and the target of every route."""
    urls = server_urls(document)
    first = urls[0] if urls else ""
    if wanted.service is not None:
        return base_path(first), {"service": wanted.service}
    if wanted.function is not None:
        return base_path(first), {"function": wanted.function}
    url = wanted.url or first
    try:
        read = urlsplit(url)
        absolute = read.scheme in ("http", "https") and read.hostname is not None
    except ValueError:
        absolute = False
    if not absolute:
        found = f"{url[:80]!r}" if url else "no server"
        expected = "an absolute URL, or --url, --service or --function"
        raise WrongDocument(("servers",), found, expected)
    read = urlsplit(url)
    return base_path(url) or base_path(first), {"url": f"{read.scheme}://{read.netloc}"}


def _routes(
    document: Document, base: str, to: dict[str, str], usual: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the routes; those that differ in parts of segments only are one."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    notes, taken = list[str](), set[str]()
    places = operations(document)
    if not places:
        raise WrongDocument(("paths",), "no operation", "one at least")
    for template, method, path in places:
        text = _template(base + template, path)
        shape = VARIABLE.sub("{}", text), method
        if shape in found:
            found[shape].pop("operation", None)
            notes.append(f"{method.upper()} {template} is one route with another of this form")
            continue
        route: dict[str, Any] = {"path": text, "methods": [method.upper()], "to": dict(to)}
        name = document.at(path).get("operationId")
        if isinstance(name, str) and _OPERATION.fullmatch(name) and name not in taken:
            route["operation"] = name
            taken.add(name)
        if "security" in document.at(path):
            notes += _secured(document, path, route, usual)
        found[shape] = route
    if len(found) > MAX_ROUTES:
        raise WrongDocument(("paths",), f"{len(found)} operations", f"at most {MAX_ROUTES}")
    return list(found.values()), notes


def _secured(
    document: Document, path: Path, route: dict[str, Any], usual: list[dict[str, Any]]
) -> list[str]:
    names, scopes, free = security.asked(document, path)
    methods, notes = security.methods(document, names)
    route["scopes"] = scopes
    if methods and methods != usual:
        route["authentication"] = methods
    if free or not names:
        which = f"{route['methods'][0]} {route['path']}"
        notes.append(f"{which} is for everyone in the document; here it needs a credential")
    return notes


def _scoped(routes: list[dict[str, Any]], scopes: list[str]) -> list[dict[str, Any]]:
    """Give the scopes of the whole document to the routes that have none of their own."""
    made = []
    for route in routes:
        own = route.pop("scopes", scopes)
        made.append({**route, **({"scopes": list(own)} if own else {})})
    return made


def _scopes(document: Document, routes: list[dict[str, Any]], scopes: list[str]) -> dict[str, str]:
    used = {scope for route in routes for scope in route.get("scopes", ())} | set(scopes)
    return dict.fromkeys(sorted(used), "") | security.scopes(document)


def _template(template: str, path: Path) -> str:
    """Return a path template of the gateway: every variable is a whole segment."""
    segments, taken = list[str](), set[str]()
    for segment in template[1:].split("/"):
        names = VARIABLE.findall(segment)
        if not names:
            segments.append(_literal(segment, path))
            continue
        name = _NOT_A_VARIABLE.sub("_", "_".join(names)).strip("_") or "value"
        name = f"_{name}" if name[0].isdigit() else name
        while name in taken:
            name += "_"
        taken.add(name)
        segments.append("{" + name + "}")
    if "" in segments[:-1]:
        raise WrongDocument(path[:2], f"path {template[:80]!r}", "single slashes")
    return "/" + "/".join(segments)


def _literal(segment: str, path: Path) -> str:
    try:
        plain = canonical("/" + segment) == Place("/" + segment, (unquote(segment),))
    except Refused:
        plain = False
    if not plain or "{" in segment or "}" in segment or "%" in segment:
        raise WrongDocument(path[:2], f"segment {segment[:80]!r}", "text that needs no escape")
    return segment


def _checked(product: dict[str, Any]) -> None:
    """Hold the product against its model.

    Raises:
        WrongDocument: A name, a URL or a scope in the document can be none here.
    """
    name = product["metadata"]["name"]
    if not is_name(name):
        raise WrongDocument(("info", "title"), f"name {name!r}", "a-z, 0-9 and '-'")
    try:
        ApiProduct.model_validate(
            product, by_alias=True, by_name=False, context={"from_file": True}
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        found = f"{where} of the product: {first['msg'][:160]}"
        raise WrongDocument((), found, "what a product can have") from None
