"""Catalogue files as documents for the admin API, and its problems back to their lines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from wherry.config import contents
from wherry.config.document import Document, documents, parsed, pieces
from wherry.config.stored import KINDS
from wherry.errors import ConfigError, Problem
from wherry.pointer import steps_of

MAX_OPENAPI = 1 << 20
"""Most bytes of a product's OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Written:
    """One resource of a file.

    Attributes:
        document: Knows its lines.
        sent: What goes to the admin API; no longer names files.
    """

    document: Document
    sent: Mapping[str, object]


def written(source: Path) -> list[Written]:
    """Return the resources of the catalogue in a file or folder, in order.

    Raises:
        ConfigError: One is no resource of the catalogue, or a file that it names is unusable;
            or the files are no YAML.
    """
    found: list[Written] = []
    problems: list[Problem] = []
    for path, text in contents(source).items():
        for piece, before in pieces(str(path), text):
            try:
                read = [each.moved(str(path), before) for each in documents(piece)]
                found += [_written(each, path.parent) for each in read]
            except ConfigError as error:
                problems += [
                    p if p.file else Problem(str(path), before + p.line, p.found, p.expected)
                    for p in error.problems
                ]
    if problems:
        raise ConfigError(problems)
    return found


def _written(document: Document, folder: Path) -> Written:
    data = document.data
    if not isinstance(data, dict) or data.get("kind") not in KINDS:
        kind = data.get("kind") if isinstance(data, dict) else None
        found = f"kind {kind!r}" if kind else "no kind"
        expected = f"one of {', '.join(KINDS)}; others live in the files of `wherry up`"
        raise ConfigError([document.problem(("kind",), found, expected)])
    spec = data.get("spec")
    if isinstance(spec, dict) and isinstance(spec.get("openapi"), str):
        api = _openapi(document, folder / spec["openapi"])
        data = {**data, "spec": {**spec, "openapi": api}}
    return Written(document, data)


def _openapi(document: Document, path: Path) -> Mapping[str, object]:
    """Read the file that a product names, so that it can be stored with the product."""
    at, expected = ("spec", "openapi"), "one OpenAPI document in JSON or YAML"
    text = _api_text(document, path)
    try:
        if path.suffix == ".json":
            read: object = parsed(text)
        else:
            read = next((each.data for each in documents(text)), None)
    except ConfigError as error:
        problems = [Problem(str(path), p.line, p.found, p.expected) for p in error.problems]
        raise ConfigError(problems) from None
    if isinstance(read, dict):
        return read
    raise ConfigError([document.problem(at, f"{path}: no mapping", expected)])


def _api_text(document: Document, path: Path) -> str:
    found, expected = "", "a file of text to read"
    try:
        size = path.stat().st_size
        if size <= MAX_OPENAPI:
            return path.read_text("utf-8")
        found, expected = f"{size} bytes", f"at most {MAX_OPENAPI}"
    except UnicodeDecodeError:
        found = "bytes that are no UTF-8"
    except OSError as error:
        found = str(error.strerror)
    raise ConfigError([document.problem(("spec", "openapi"), f"{path}: {found}", expected)])


def located(errors: Sequence[Mapping[str, object]], sources: Sequence[Written]) -> ConfigError:
    """Return what the admin API found wrong, by the lines of the files where that stands.

    Args:
        errors: ``errors`` of its problem document.
        sources: What was sent.
    """
    by_name = {_name(each.sent): each.document for each in sources}
    return ConfigError([_problem(error, by_name) for error in errors])


def _problem(error: Mapping[str, object], by_name: Mapping[str, Document]) -> Problem:
    found, expected = str(error.get("found")), str(error.get("expected"))
    resource = str(error.get("resource", ""))
    document = by_name.get(resource)
    if document is not None:
        path = tuple(_steps(document.data, str(error.get("pointer", ""))))
        return document.problem(path, found, expected)
    if resource:
        return Problem(f"stored {resource}", 1, found, expected)
    line = error.get("line")
    return Problem(str(error.get("file")), line if isinstance(line, int) else 1, found, expected)


def _steps(data: object, pointer: str) -> Iterator[str | int]:
    for name in steps_of(pointer):
        step: str | int = int(name) if isinstance(data, list) and name.isdecimal() else name
        yield step
        try:
            data = data[step]  # type: ignore[index]
        except (LookupError, TypeError):
            return


def _name(document: Mapping[str, object]) -> str:
    named = document.get("metadata")
    name = named.get("name") if isinstance(named, Mapping) else None
    return f"{document.get('kind')}/{name}"


def dumped(resources: Sequence[Mapping[str, object]]) -> str:
    """Return resources as YAML documents, as `written` reads them."""
    first = ("apiVersion", "kind", "metadata", "spec")
    ordered = [{name: each[name] for name in first if name in each} for each in resources]
    if not ordered:
        return ""
    return str(yaml.safe_dump_all(ordered, sort_keys=False, allow_unicode=True))


def shown(value: object, *, most: int = 120) -> str:
    """Return one value of a difference in one line of at most ``most`` characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else text[: most - 1] + "…"
