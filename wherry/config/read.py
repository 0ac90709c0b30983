"""Documents to resources: which kind, which fields, and what to say when one is off."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from wherry.config.document import Document, one_of
from wherry.errors import ConfigError, Problem
from wherry.model.resource import NAME_PATTERN, Resource, Strict, is_name
from wherry.model.service import ShortForm, ShortService, ShortVersion
from wherry.model.sidecar import EVERY_HOST, HERE, NOWHERE
from wherry.model.world import FIELD

KINDS: Mapping[str, type[Resource]] = {kind.__name__: kind for kind in FIELD}
APP, VERSION = "app", "version"
MAX_SHOWN = 40
"""Most characters of a wrong value that an error repeats."""


def resources(document: Document) -> Iterator[Resource]:
    """Yield the resources that a document stands for.

    Raises:
        ConfigError: Every field that is unknown, missing, mistyped or out of range.
    """
    data = document.data
    if not isinstance(data, dict):
        raise ConfigError(
            [document.problem((), f"a {_kind_of(data)}", "a mapping with apiVersion and kind")]
        )
    if "kind" not in data:
        short = _checked(document, ShortForm)
        if problems := list(_unnameable(document, short)):
            raise ConfigError(problems)
        yield from _desugared(short)
        return
    kind = KINDS.get(str(data["kind"]))
    if kind is None:
        problem = document.problem(
            ("kind",), f"unknown kind {data['kind']!r}", one_of(sorted(KINDS), str(data["kind"]))
        )
        raise ConfigError([problem])
    yield _checked(document, kind)


T = TypeVar("T", bound=Strict)


def _checked(document: Document, model: type[T]) -> T:
    try:
        return model.model_validate(
            document.data, by_alias=True, by_name=False, context={"from_file": True}
        )
    except ValidationError as error:
        raise ConfigError(
            list(dict.fromkeys(_problem(document, e) for e in error.errors(include_url=False)))
        ) from None


def _problem(document: Document, error: ErrorDetails) -> Problem:
    path: list[str | int] = [part for part in error["loc"] if part != "[key]"]
    context: dict[str, Any] = error.get("ctx") or {}
    where = _dotted(path)
    match error["type"]:
        case "unknown_field":
            name = str(context["field"])
            path.append(name)
            return document.problem(
                path, f"unknown field {_dotted(path)!r}", one_of(context["allowed"], name)
            )
        case "missing":
            parent = _dotted(path[:-1]) or "the document"
            return document.problem(path, f"no field {path[-1]!r} in {parent}", f"{path[-1]!r}")
        case "value_error":
            text = str(context.get("error", error["msg"]))
            found, comma, expected = text.partition("expected ")
            if comma:
                return document.problem(path, f"{where}: {found.rstrip(' :,')}", expected)
            return document.problem(path, f"{where}: {text}", "a valid value")
        case _:
            found = f"{where}: {_shown(error['input'])}"
            kind = error["type"]
            if kind == "string_type" and isinstance(error["input"], dict | list):
                return document.problem(path, found, "a string")  # quotes would not help
            return document.problem(path, found, _expected(kind, context, error["msg"]))


_FORMS = {NAME_PATTERN: "lower-case letters, digits, '-' and '.', as in a host name"}
_TYPES = {
    "string_type": "a string (put it in quotes)",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "float_type": "a number",
}


_SAID: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "literal_error": lambda at: str(at["expected"]),
    "string_pattern_mismatch": lambda at: _FORMS.get(
        at["pattern"], f"text of the form {at['pattern']}"
    ),
    "greater_than_equal": lambda at: f"at least {at['ge']}",
    "less_than_equal": lambda at: f"at most {at['le']}",
    "too_short": lambda at: f"at least {at['min_length']} in it",
    "too_long": lambda at: f"at most {at['max_length']} in it",
    "union_tag_not_found": lambda at: f"a mapping with the field {at['discriminator']}",
    "union_tag_invalid": lambda at: f"{at['discriminator']} to be one of {at['expected_tags']}",
}
"""What was expected, by pydantic's kinds of errors and what they say."""


def _expected(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind in _SAID:
        return _SAID[kind](context)
    if kind in _TYPES:
        return _TYPES[kind]
    return message[0].lower() + message[1:].replace("nput should", "value that should", 1)


def _dotted(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _shown(value: object) -> str:
    match value:
        case str():
            return repr(value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "…")
        case bool():
            return str(value).lower()
        case None:
            return "nothing"
        case dict() | list():
            return f"a {_kind_of(value)}"
        case _:
            return str(value)


def _kind_of(value: object) -> str:
    match value:
        case dict():
            return "mapping"
        case list():
            return "list"
        case str():
            return "text"
        case _:
            return type(value).__name__


def _unnameable(document: Document, short: ShortForm) -> Iterator[Problem]:
    for name, service in short.services.items():
        for version in service.versions:
            if not is_name(f"{name}-{version}"):
                yield document.problem(
                    ("services", name, "versions", version),
                    f"version {version!r} of service {name!r}: '{name}-{version}' is no name",
                    "a-z, 0-9, '-' and '.', at most 63 characters between dots",
                )


def _desugared(short: ShortForm) -> Iterator[Resource]:
    for name, service in short.services.items():
        port = {"port": service.service_port, "app_protocol": service.app_protocol}
        yield _service(name, port, {APP: name})
        for version, form in service.versions.items():
            labels = {APP: name, VERSION: version}
            yield _service(f"{name}-{version}", port, labels)
            if form.run is not None:
                yield _workload(name, version, form)
            if form.calls is not None:
                yield _sidecar(f"{name}-{version}", labels, form.calls)
        if service.run is not None:
            yield _workload(name, "v1", service)
        if service.calls is not None:
            yield _sidecar(name, {APP: name}, service.calls)
        if service.health is not None:
            yield _health_check(name, service.health)


def _service(name: str, port: Mapping[str, object], selector: Mapping[str, str]) -> Resource:
    return KINDS["Service"].model_validate(
        {
            "api_version": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": dict(selector), "ports": [dict(port)]},
        }
    )


def _sidecar(name: str, labels: Mapping[str, str], calls: Sequence[str]) -> Resource:
    hosts = [f"{HERE}/{service}" for service in calls] or [f"{NOWHERE}/{EVERY_HOST}"]
    return KINDS["Sidecar"].model_validate(
        {
            "api_version": "networking.istio.io/v1",
            "kind": "Sidecar",
            "metadata": {"name": name},
            "spec": {
                "workload_selector": {"labels": dict(labels)},
                "egress": [{"hosts": hosts}],
            },
        }
    )


def _health_check(service: str, path: str) -> Resource:
    return KINDS["HealthCheck"].model_validate(
        {
            "api_version": "wherry.dev/v1",
            "kind": "HealthCheck",
            "metadata": {"name": service},
            "spec": {"service": service, "http": {"path": path}},
        }
    )


def _workload(service: str, version: str, form: ShortVersion) -> Resource:
    name = service if isinstance(form, ShortService) else f"{service}-{version}"
    return KINDS["Workload"].model_validate(
        {
            "api_version": "wherry.dev/v1",
            "kind": "Workload",
            "metadata": {"name": name},
            "spec": {
                "service": service,
                "version": version,
                "command": form.run,
                "port": form.port,
                "environment": form.environment,
            },
        }
    )
