"""Files and stored documents to one immutable `World`, all of it or nothing."""

from collections.abc import Mapping
from pathlib import Path

from wherry.config.document import Document
from wherry.config.memory import Memory, Written
from wherry.config.references import dangling
from wherry.errors import ConfigError, Problem
from wherry.model.resource import Resource
from wherry.model.world import FIELD, Origin, World

SUFFIXES = frozenset({".yaml", ".yml"})
MAX_FILES = 10_000
"""Most files that one World is read from."""

_memory = Memory()


def files(source: Path) -> list[Path]:
    """Return the files that ``source`` names: itself, or every YAML file in its folder.

    Subfolders are not read: they hold code.

    Raises:
        ConfigError: There is no such file or folder, it cannot be read, or it holds more than
            `MAX_FILES`.
    """
    expected = "a YAML file or a folder"
    try:
        if source.is_dir():
            found = sorted(p for p in source.iterdir() if p.suffix in SUFFIXES and p.is_file())
        elif source.is_file():
            found = [source]
        else:
            raise ConfigError([Problem(str(source), 1, "no such file", expected)])
    except OSError as error:
        raise ConfigError([Problem(str(source), 1, str(error.strerror), expected)]) from None
    if len(found) > MAX_FILES:
        problem = Problem(str(source), 1, f"{len(found)} files", f"at most {MAX_FILES}")
        raise ConfigError([problem])
    return found


def load(source: Path) -> World:
    """Read a file or a folder of files into a `World`.

    Raises:
        ConfigError: Everything wrong in any file, each with its place; nothing is taken then.
    """
    return assemble(contents(source))


def contents(source: Path) -> dict[Path, str]:
    """Return the contents of the files that ``source`` names.

    Raises:
        ConfigError: See `files`; or one cannot be read, or is no UTF-8.
    """
    return {path: _text(path) for path in files(source)}


def assemble(texts: Mapping[Path, str]) -> World:
    """Make a `World` of file contents by path; see `load`.

    A path ``store:KIND/NAME`` stands for a document of the Store; a file that has the same kind
    and name takes its place.

    Documents that the call before has read already are not read again: their resources are the
    very same objects.
    """
    read, problems = _memory.read(texts)
    read = _files_first(read)
    problems += _twice(read)
    if problems:
        raise ConfigError(problems)
    world = _world(read)
    written = {(type(r).__name__, r.name): (document, folder) for r, document, folder in read}
    if problems := list(dangling(world, written)):
        raise ConfigError(problems)
    return world


def _files_first(read: list[Written]) -> list[Written]:
    filed = {(type(each).__name__, each.name) for each, document, _ in read if not document.stored}
    return [
        (each, document, folder)
        for each, document, folder in read
        if not (document.stored and (type(each).__name__, each.name) in filed)
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError([Problem(str(path), line, "bytes that are no UTF-8", "UTF-8")]) from None
    except OSError as error:
        raise ConfigError([Problem(str(path), 1, str(error.strerror), "a readable file")]) from None


def _twice(read: list[Written]) -> list[Problem]:
    first: dict[tuple[str, str], Document] = {}
    problems = []
    for resource, document, _ in read:
        key = (type(resource).__name__, resource.name)
        if key in first:
            before = f"{first[key].file}:{first[key].line}"
            found = f"{key[0]} {key[1]!r} a second time (first at {before})"
            path = ("metadata", "name")
            if isinstance(document.data, dict) and "services" in document.data:
                path = ("services", resource.name)
            problems.append(document.problem(path, found, "each name once per kind"))
        first.setdefault(key, document)
    return problems


def _world(read: list[Written]) -> World:
    by_field: dict[str, dict[str, Resource]] = {name: {} for name in FIELD.values()}
    origins = {}
    for resource, document, folder in read:
        by_field[FIELD[type(resource)]][resource.name] = resource
        kind = type(resource).__name__
        origins[kind, resource.name] = Origin(document.file, document.line, folder)
    return World(**by_field, origins=origins)  # type: ignore[arg-type]
