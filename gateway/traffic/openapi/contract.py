"""What an OpenAPI document says about calls, compiled: requests and answers are held against it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from multidict import CIMultiDict

from gateway.call import Fields
from gateway.path import Path as Place
from gateway.traffic.json import is_json
from gateway.traffic.openapi.contents import Content
from gateway.traffic.openapi.document import Document, Path, WrongDocument
from gateway.traffic.openapi.parameters import Parameter, Values, described
from gateway.traffic.openapi.schemas import Schemas
from gateway.traffic.openapi.templates import VARIABLE, Templates
from gateway.traffic.openapi.violation import MAX_VIOLATIONS, Violation

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
MAX_OPERATIONS = 4096
"""Most operations of a document."""

_STATUS = re.compile(r"[1-5](?:[0-9]{2}|XX)|default")


@dataclass(frozen=True, slots=True)
class Expected:
    """An answer that is described.

    Attributes:
        headers: That are described, as parameters.
        content: Of the body.
    """

    headers: Sequence[Parameter]
    content: Content


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        name: Its ``operationId``, or None.
        variables: Of its path, in their order.
        parameters: Of the request.
        content: Of the request's body.
        answers: By status, ``4XX`` or ``default``.
    """

    name: str | None
    variables: tuple[str, ...]
    parameters: Sequence[Parameter]
    content: Content
    answers: Mapping[str, Expected]


class Contract:
    """An OpenAPI document, ready to hold calls against.

    Paths count with and without the path of each of the document's servers before them.

    Attributes:
        names: Of the operations, sorted.
    """

    def __init__(self, document: Document) -> None:
        self._document, self._schemas = document, Schemas(document)
        self._paths = Templates[Operation]()
        self._bases = bases(document)
        self.names: tuple[str, ...] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Contract":
        """Compile an OpenAPI 3.0 or 3.1 document.

        Raises:
            WrongDocument: It cannot be used; the error says where and why.
        """
        self = cls(Document.of(document))
        names = set[str]()
        found = operations(self._document)
        if len(found) > MAX_OPERATIONS:
            many = f"{len(found)} operations"
            raise WrongDocument(("paths",), many, f"at most {MAX_OPERATIONS}")
        for template, method, path in found:
            operation = self._operation(path, tuple(VARIABLE.findall(template)))
            methods = self._paths.at(template, path)
            if method in methods:
                expected = "paths that differ in more than the names of variables"
                raise WrongDocument(path, f"{method} {template} a second time", expected)
            methods[method] = operation
            if operation.name is not None:
                if operation.name in names:
                    twice = f"operationId {operation.name!r} a second time"
                    raise WrongDocument((*path, "operationId"), twice, "each name once")
                names.add(operation.name)
        self.names = tuple(sorted(names))
        return self

    def request(
        self, method: str, path: Place, query: str, headers: Fields, body: bytes
    ) -> list[Violation]:
        """Return where a request does not keep to the document; nothing: it does.

        Args:
            method: As sent.
            path: In its one spelling.
            query: Raw, without the gateway's key.
            headers: As received.
            body: All of it.
        """
        found = self._find(method, path)
        if isinstance(found, Violation):
            return [found]
        operation, variables = found
        values = Values.of(variables, query, headers)
        violations = [v for each in operation.parameters for v in each.violations(values)]
        violations += operation.content.violations(headers, body)
        return violations[:MAX_VIOLATIONS]

    def response(
        self, method: str, path: Place, status: int, headers: Fields, body: bytes
    ) -> list[Violation]:
        """Return where an answer does not keep to the document; nothing: it does.

        An answer to HEAD, and one that has no content by its status, needs no body.
        """
        found = self._find(method, path)
        if isinstance(found, Violation):
            return [found]
        answers = found[0].answers
        given = (str(status), f"{status // 100}XX", "default")
        expected = next((answers[each] for each in given if each in answers), None)
        if expected is None:
            return [Violation("status", str(status), ", ".join(answers) or "an answer described")]
        values = Values({}, (), headers)
        violations = [v for each in expected.headers for v in each.violations(values)]
        bodiless = method == "HEAD" or status in (204, 205, 304)
        if not bodiless or body:
            violations += expected.content.violations(headers, body)
        return violations[:MAX_VIOLATIONS]

    def _find(self, method: str, path: Place) -> tuple[Operation, dict[str, str]] | Violation:
        known = list[str]()
        for base in self._bases:
            if path.segments[: len(base)] != base:
                continue
            for methods, values in self._paths.fitting(path.segments[len(base) :]):
                operation = methods.get(method.lower())
                if operation is None and method == "HEAD":
                    operation = methods.get("get")
                if operation is not None:
                    return operation, dict(zip(operation.variables, values, strict=True))
                known += [name.upper() for name in methods]
        if known:
            return Violation("method", method, " or ".join(dict.fromkeys(known)))
        return Violation("path", "none that is described", "a path of the OpenAPI document")

    def _operation(self, path: Path, variables: tuple[str, ...]) -> Operation:
        document, schemas = self._document, self._schemas
        data = document.at(path)
        parameters: dict[tuple[str, str], Parameter] = {}
        for folder in ((*path[:-1], "parameters"), (*path, "parameters")):
            for place in range(len(document.items(folder))):
                parameter = Parameter.of(document, schemas, (*folder, place))
                if parameter is not None:
                    parameters[parameter.place, parameter.name] = parameter
        body = document.follow((*path, "requestBody"))
        required = document.at(body).get("required") is True
        content = Content.of(document, schemas, (*body, "content"), answer=False, required=required)
        name = data.get("operationId")
        return Operation(
            name if isinstance(name, str) else None,
            variables,
            tuple(parameters.values()),
            content,
            {str(status): self._expected(path, str(status)) for status in self._statuses(path)},
        )

    def _statuses(self, path: Path) -> list[str]:
        folder = (*path, "responses")
        names = [name for name in self._document.at(folder) if not str(name).startswith("x-")]
        for name in names:
            if not _STATUS.fullmatch(str(name)):
                expected = "a status in quotes like '200', '4XX', or 'default'"
                raise WrongDocument((*folder, name), f"status {str(name)[:20]!r}", expected)
        return names

    def _expected(self, path: Path, status: str) -> Expected:
        document, schemas = self._document, self._schemas
        where = document.follow((*path, "responses", status))
        headers = [
            _header(document, schemas, (*where, "headers", name), name)
            for name in document.at((*where, "headers"))
            if name.lower() != "content-type"
        ]
        place = (*where, "content")
        # Nothing is no JSON, so where JSON is described there must be a body.
        kinds = (CIMultiDict({"Content-Type": kind}) for kind in document.at(place))
        required = any(map(is_json, kinds))
        content = Content.of(document, schemas, place, answer=True, required=required)
        return Expected(tuple(headers), content)


def operations(document: Document) -> list[tuple[str, str, Path]]:
    """Return each operation's path template, method and place.

    Raises:
        WrongDocument: A path is none.
    """
    found = list[tuple[str, str, Path]]()
    for template in document.at(("paths",)):
        if template.startswith("x-"):
            continue
        if not template.startswith("/"):
            place = ("paths", template)
            raise WrongDocument(place, f"path {template[:80]!r}", "one that begins with '/'")
        path = document.follow(("paths", template))
        item = document.at(path)
        found += [
            (template, method, (*path, method))
            for method in METHODS
            if isinstance(item.get(method), Mapping)
        ]
    return found


def bases(document: Document) -> tuple[tuple[str, ...], ...]:
    """Return the segments of the paths of the document's servers, the longest first, and none."""
    found = {()} | {
        tuple(unquote(s) for s in base_path(url).split("/")[1:]) for url in server_urls(document)
    }
    return tuple(sorted(found, key=lambda base: (-len(base), base)))


def server_urls(document: Document) -> list[str]:
    """Return the URLs of the document's servers, with the defaults of their variables."""
    urls = []
    for place, server in enumerate(document.items(("servers",))):
        url = server.get("url") if isinstance(server, Mapping) else None
        if not isinstance(url, str):
            raise WrongDocument(("servers", place, "url"), "no URL", "a URL")
        variables = document.at(("servers", place, "variables"))
        for name, variable in variables.items():
            if isinstance(variable, Mapping):
                url = url.replace("{" + name + "}", str(variable.get("default", "")))
        if "{" in url or "}" in url:
            raise WrongDocument(("servers", place, "url"), f"{url[:80]!r}", "known variables only")
        urls.append(url)
    return urls


def base_path(url: str) -> str:
    """Return the path of a server's URL without a slash at its end."""
    try:
        return urlsplit(url).path.rstrip("/")
    except ValueError:
        return ""


def _header(document: Document, schemas: Schemas, path: Path, name: str) -> Parameter:
    path = document.follow(path)
    data = document.at(path)
    read = described(document, schemas, path, answer=True)
    required = data.get("required") is True
    return Parameter(name, "header", required, "simple", data.get("explode") is True, *read)
