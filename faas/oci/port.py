"""Which files of an image a function needs, and where they go in layers. Pure.

An image holds an operating system, a language and, somewhere in there, a function. Guests bring
the first two, so only the rest is moved: ``/opt``, packages of the language, the function's own
folder, and programs and libraries that were added above the operating system.

Source: https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html (folders of layers)
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from faas.oci.documents import Config
from faas.oci.tree import File, Folder, Link, Merged, Parts

TASK = "var/task"


class Place(StrEnum):
    """Where files go."""

    CODE = "code"
    OPT = "opt"
    PYTHON = "python"
    NODE = "nodejs"
    BIN = "bin"
    LIB = "lib"


class Skip(StrEnum):
    """Why files are left out."""

    SYSTEM = "operating system"
    LANGUAGE = "the language's own, which guests have"
    TOOLS = "build tools and caches"
    LINKS = "links to nothing or to folders"


PREFIXES: Mapping[Place, str] = {
    Place.CODE: "",
    Place.OPT: "",
    Place.PYTHON: "python/",
    Place.NODE: "nodejs/node_modules/",
    Place.BIN: "bin/",
    Place.LIB: "lib/",
}
"""Folder of a layer, which becomes ``/opt``."""

_PACKAGES = re.compile(r"(?:^|.*/)lib(?:64)?/python3(?:\.\d+)?/(?:site|dist)-packages/(?P<name>.+)")
_MODULES = re.compile(r"(?:^|.*?/)node_modules/(?P<name>.+)")
_PROGRAMS = re.compile(r"(?:usr/local/|usr/)?s?bin/(?P<name>[^/]+)")
_PYTHON_TOOLS = re.compile(
    r"(?:pip|setuptools|wheel|pkg_resources|_distutils_hack|awslambdaric)(?:/|-[^/]*/|$)"
    r"|distutils-precedence\.pth$|README\.txt$|runtime_client\.[^/]*so$"
)
_NODE_TOOLS = re.compile(r"(?:npm|corepack|yarn|aws-lambda-ric|\.bin)(?:/|$)|\.package-lock\.json$")
_LANGUAGE = re.compile(
    r"var/(?:lang|runtime)/|usr/(?:local/)?(?:lib|include)/python3[^/]*/"
    r"|usr/(?:local/)?(?:lib/libpython3|include/(?:node|python)|share/(?:doc|man)/(?:node|python))"
    r"|(?:usr/(?:local/)?)?bin/(?:python|pydoc|idle|2to3|pip|wheel|node|npm|npx|corepack|yarn)[^/]*"
)
_CACHES = re.compile(r"(?:.*/)?(?:__pycache__|\.git|\.cache|\.npm)/|.*\.py[co]$|root/|tmp/")
_RELEASES = (("etc", "os-release"), ("usr", "lib", "os-release"))


@dataclass(frozen=True, slots=True)
class Taken:
    """One file that is moved.

    Attributes:
        place: What it is taken as.
        target: Its path in the layer or in the code.
        file: The content; of a link, of what it leads to.
        layer: The image's layer that put it there.
        path: Where it was.
    """

    place: Place
    target: str
    file: File
    layer: int
    path: str


@dataclass(slots=True)
class Sorted:
    """An image's files by what becomes of them.

    Attributes:
        taken: What is moved for certain.
        programs: Programs above the operating system, moved when guests can run them.
        skipped: How many files of each layer were left out, and why.
    """

    taken: list[Taken] = field(default_factory=list)
    programs: list[Taken] = field(default_factory=list)
    skipped: dict[int, Counter[Skip]] = field(default_factory=dict)

    def skip(self, layer: int, reason: Skip) -> None:
        """Count a file that is left out."""
        self.skipped.setdefault(layer, Counter())[reason] += 1


def code_folder(merged: Merged, config: Config) -> str:
    """Return the folder with the function's own files: ``/var/task`` or where its image works."""
    said = config.environment.get("LAMBDA_TASK_ROOT", "") or TASK
    for candidate in (said, config.config.working_directory):
        found = merged.find(candidate)
        if candidate.strip("/") and found and isinstance(found[1], Folder) and found[1].children:
            return "/".join(found[0])
    return TASK


def base_of(merged: Merged) -> int:
    """Return the layer that is the operating system; -1: there is none."""
    found = [merged.at(path) for path in _RELEASES]
    return min((node.layer for node in found if node is not None), default=-1)


def ordered(merged: Merged, code: str) -> Sorted:
    """Return what becomes of each file of an image.

    Args:
        merged: Its files.
        code: The folder with the function's own, see `code_folder`.
    """
    result, base = Sorted(), base_of(merged)
    environments = _environments(merged)
    for parts, node in merged.walk():
        if isinstance(node, Folder):
            continue
        path = "/".join(parts)
        found = _place(path, code, environments, base=node.layer <= base)
        if isinstance(found, Skip):
            result.skip(node.layer, found)
            continue
        place, target = found
        file = _file(merged, parts, node)
        if file is None or (place is Place.BIN and not file.executable):
            result.skip(node.layer, Skip.LINKS if file is None else Skip.SYSTEM)
            continue
        taken = Taken(place, PREFIXES[place] + target, file, node.layer, path)
        (result.programs if place is Place.BIN else result.taken).append(taken)
    return result


def _place(
    path: str, code: str, environments: frozenset[str], *, base: bool
) -> tuple[Place, str] | Skip:
    if _CACHES.match(path) and not path.startswith(f"{code}/bin/"):
        return Skip.TOOLS
    if base and not path.startswith(("opt/", f"{code}/")):
        return Skip.SYSTEM
    packages = _PACKAGES.fullmatch(path)
    if packages or path.startswith(f"{code}/"):
        name = packages["name"] if packages else path.removeprefix(f"{code}/")
        if _PYTHON_TOOLS.match(name):
            return Skip.LANGUAGE
        if packages:
            return Place.PYTHON, name
        in_environment = any(path.startswith(f"{folder}/") for folder in environments)
        return Skip.TOOLS if in_environment else (Place.CODE, name)
    return _outside(path)


def _outside(path: str) -> tuple[Place, str] | Skip:
    """Return what becomes of a file that is neither in ``/opt`` nor the function's own."""
    if path.startswith("opt/"):
        return Place.OPT, path.removeprefix("opt/")
    modules = _MODULES.fullmatch(path)
    if modules:
        name = modules["name"]
        return Skip.LANGUAGE if _NODE_TOOLS.match(name) else (Place.NODE, name)
    if path == "var/runtime/bootstrap":
        return Place.CODE, "bootstrap"
    if _LANGUAGE.match(path):
        return Skip.LANGUAGE
    program = _PROGRAMS.fullmatch(path)
    return (Place.BIN, program["name"]) if program else Skip.SYSTEM


def _environments(merged: Merged) -> frozenset[str]:
    """Return the folders of Python's virtual environments."""
    return frozenset(
        "/".join(parts[:-1]) for parts, _ in merged.walk() if parts[-1] == "pyvenv.cfg"
    )


def _file(merged: Merged, parts: Parts, node: File | Link) -> File | None:
    """Return the file that a path leads to."""
    if isinstance(node, File):
        return node
    found = merged.find("/".join(parts))
    return found[1] if found is not None and isinstance(found[1], File) else None
