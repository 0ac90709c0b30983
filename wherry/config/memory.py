"""Files and stored documents to resources; what was read the last time is not read again."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from wherry.config.document import Document, documents, pieces, stored
from wherry.config.read import resources
from wherry.errors import ConfigError, Problem
from wherry.model.resource import Resource

Written = tuple[Resource, Document, Path]
"""A resource, where it was written, and the folder of that file."""

STORE = "store:"
"""How the path begins that stands for a document of the Store: ``store:KIND/NAME``."""

_NOWHERE = Path("/nonexistent")

_Taken = tuple[tuple[Resource, Document], ...]


class Memory:
    """What the last reading held, by the text of each piece of a file.

    One World's worth: what a reading does not meet again is forgotten.
    """

    def __init__(self) -> None:
        self._known: Mapping[tuple[bool, str], _Taken] = {}

    def read(self, texts: Mapping[Path, str]) -> tuple[list[Written], list[Problem]]:
        """Read file contents by path; return all that is good, and all that is wrong."""
        known: dict[tuple[bool, str], _Taken] = {}
        read: list[Written] = []
        problems: list[Problem] = []
        for path, text in texts.items():
            file = str(path)
            kept = file.startswith(STORE)
            folder = _NOWHERE if kept else path.absolute().parent
            try:
                cut = [(text, 0)] if kept else pieces(file, text)
            except ConfigError as error:
                problems += error.problems
                continue
            for piece, before in cut:
                key = (kept, piece)
                taken = self._known.get(key) or known.get(key)
                if taken is None:
                    taken, wrong = _taken(piece, kept=kept)
                    problems += [
                        replace(p, file=file + p.file, line=before + p.line) for p in wrong
                    ]
                    if wrong:
                        continue
                known[key] = taken
                read += [(each, doc.moved(file, before), folder) for each, doc in taken]
        self._known = known
        return read, problems


def _taken(piece: str, *, kept: bool) -> tuple[_Taken, list[Problem]]:
    taken: list[tuple[Resource, Document]] = []
    problems: list[Problem] = []
    try:
        found = [stored(piece)] if kept else documents(piece)
    except ConfigError as error:
        return (), list(error.problems)
    for document in found:
        try:
            taken += [(each, document) for each in resources(document)]
        except ConfigError as error:
            problems += error.problems
    return tuple(taken), problems
