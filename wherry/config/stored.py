"""Resources that are written through the admin API and the portal, beside those in files.

Each is a JSON document in the Store under ``resource/KIND/NAME``. `wherry.config.assemble` reads
them together with files; a name in a file stands, and nobody else may write it.
`wherry.resources.Resources` reads and writes them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wherry.config.document import one_of, pointer, stored
from wherry.config.memory import STORE
from wherry.config.read import resources
from wherry.errors import ConfigError, Problem, WherryError
from wherry.model.product import ApiGateway, ApiProduct, Consumer, Plan, Subscription

FOLDER = "resource/"
"""Where the Store keeps them."""

KINDS: Mapping[str, type[ApiProduct | Plan | Consumer | Subscription | ApiGateway]] = {
    kind.__name__: kind for kind in (ApiGateway, Plan, ApiProduct, Consumer, Subscription)
}
"""Kinds that may be stored; each refers only to those before it."""

MAX_STORED = 100_000
"""Most resources in the Store."""

Id = tuple[str, str]
"""Kind and name."""

Doc = Mapping[str, object]
"""What a user wrote: ``apiVersion``, ``kind``, ``metadata`` and ``spec``."""

Verb = Literal["create", "update", "delete", "keep"]


class Declared(WherryError):
    """A resource stands in a file; it is changed there."""

    def __init__(self, of: Id, origin: str) -> None:
        super().__init__(f"{of[0]} {of[1]!r}: declared in {origin}, expected a change of that file")
        self.kind, self.name = of
        self.origin = origin


class Absent(WherryError):
    """There is no such resource."""

    def __init__(self, of: Id) -> None:
        super().__init__(f"{of[0]} {of[1]!r}: not found, expected one that exists")
        self.kind, self.name = of


class Busy(WherryError):
    """Others are writing resources, and did not end in time."""

    def __init__(self) -> None:
        super().__init__("resources: being written by others, expected an end; try again")


@dataclass(frozen=True, slots=True)
class Held:
    """A resource as it stands.

    Attributes:
        kind: One of `KINDS`.
        name: Unique within its kind.
        revision: For optimistic writes; 0 when a file declares it.
        document: As it was written.
        origin: ``FILE:LINE`` that declares it, or None: it is in the Store.
    """

    kind: str
    name: str
    revision: int
    document: Doc
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one resource.

    Attributes:
        kind: One of `KINDS`.
        name: Unique within its kind.
        before: What it was; None when there was none.
        after: What it is; None when it is gone.
        revision: Of what it is; 0 when that is not written (yet), or gone.
    """

    kind: str
    name: str
    before: Doc | None
    after: Doc | None
    revision: int = 0

    @property
    def verb(self) -> Verb:
        """What is done."""
        if self.before == self.after:
            return "keep"
        if self.before is None:
            return "create"
        return "delete" if self.after is None else "update"


@dataclass(frozen=True, slots=True)
class Difference:
    """One place of a document that changes.

    Attributes:
        pointer: JSON pointer of it (RFC 6901).
        before: What stands there; None also when nothing does.
        after: What will stand there; None also when nothing will.
    """

    pointer: str
    before: object
    after: object


def key(of: Id) -> str:
    """Return the Store's key of a resource."""
    return f"{FOLDER}{of[0]}/{of[1]}"


def path(of: Id) -> Path:
    """Return the path that stands for a stored resource in messages and `Origin`."""
    return Path(f"{STORE}{of[0]}/{of[1]}")


def id_of(record: str) -> Id | None:
    """Return which resource the Store's key ``record`` is of, or None when of none."""
    kind, slash, name = record.removeprefix(FOLDER).partition("/")
    return (kind, name) if record.startswith(FOLDER) and slash and kind in KINDS else None


def identified(document: Doc) -> Id:
    """Check one document by itself; return its kind and name.

    Raises:
        ConfigError: Every field that is unknown, missing or wrong; the path of each problem is
            ``store:KIND/NAME#POINTER``.
    """
    kind, text = document.get("kind"), encoded(document)
    named = document.get("metadata")
    name = named.get("name") if isinstance(named, Mapping) else None
    file = f"{STORE}{_short(kind)}/{_short(name)}"
    if kind not in KINDS:
        found = f"kind {_short(kind)!r}" if kind else "no kind"
        problem = Problem(f"{file}#", 1, found, one_of(list(KINDS), _short(kind)))
        raise ConfigError([problem])
    try:
        [resource] = resources(stored(text).moved(file, 0))
    except ConfigError as error:
        problems = [
            p if p.file.startswith(STORE) else Problem(file + p.file, p.line, p.found, p.expected)
            for p in error.problems
        ]
        raise ConfigError(problems) from None
    if problems := list(_files(resource, document, file)):
        raise ConfigError(problems)
    return str(kind), resource.name


def encoded(document: Doc) -> str:
    """Return the text that is stored.

    Raises:
        ConfigError: It cannot be JSON, or not Unicode.
    """
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        problem = Problem(f"{STORE}document", 1, f"no JSON ({str(error)[:200]})", "plain JSON")
        raise ConfigError([problem]) from None
    return text


def differences(before: object, after: object, at: str = "") -> Iterator[Difference]:
    """Yield each smallest place where two documents differ; lists differ as a whole.

    None stands for no document.
    """
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            inner = f"{at}{pointer({name: 0}, (name,))}"
            yield from differences(before.get(name), after.get(name), inner)
        return
    yield Difference(at, before, after)


def _files(resource: object, document: Doc, file: str) -> Iterator[Problem]:
    """A stored document has no folder, so that it cannot name files beside it."""
    places: Sequence[tuple[str, ...]] = ()
    match resource:
        case ApiProduct() if isinstance(resource.spec.openapi, str):
            places, expected = [("spec", "openapi")], "the OpenAPI document itself"
        case ApiGateway() if resource.spec.tls is not None:
            places, expected = [("spec", "tls")], "tls only in a file: it names files beside it"
        case _:
            return
    for place in places:
        told = f"{file}#{pointer(document, place)}"
        yield Problem(told, 1, f"{'.'.join(place)}: the path of a file", expected)


def _short(value: object) -> str:
    return value[:80] if isinstance(value, str) else ""
