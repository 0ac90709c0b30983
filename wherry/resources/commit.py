"""One write of many resources: a single record decides, the others follow from it."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from wherry.audit import Entry
from wherry.config.document import stored
from wherry.config.stored import FOLDER, Change, Doc, Id, encoded, id_of, key
from wherry.errors import WherryError
from wherry.store import Record, View

COMMIT = FOLDER + ".commit"
"""The record that decides."""

_MAX_COMMIT = 64 << 20


class Damaged(WherryError):
    """A record of ours is not what we write."""

    def __init__(self, key: str) -> None:
        super().__init__(f"record {key!r}: unreadable, expected a write of resources")
        self.key = key


@dataclass(frozen=True, slots=True)
class Commit:
    """The newest write: its record is what decides, the others follow from it.

    Attributes:
        revision: Of its record; 0: nothing was ever written.
        changes: What it does; none once everything followed.
    """

    revision: int = 0
    token: str = ""
    actor: str = ""
    at_ns: int = 0
    changes: tuple[Change, ...] = ()

    def encode(self) -> bytes:
        """Return the record's body."""
        changes = [[c.kind, c.name, c.before, c.after] for c in self.changes]
        fields = [self.token, self.actor, self.at_ns, changes]
        return zlib.compress(json.dumps(fields, ensure_ascii=False).encode())

    @classmethod
    def decode(cls, record: Record | None) -> "Commit":
        """Read what `encode` wrote; None stands for no write yet.

        Raises:
            Damaged: It is something else.
        """
        if record is None:
            return cls()
        try:
            text = zlib.decompressobj().decompress(record.body, _MAX_COMMIT)
            token, actor, at_ns, changes = json.loads(text)
            return cls(record.revision, token, actor, at_ns, tuple(Change(*c) for c in changes))
        except (zlib.error, ValueError, TypeError):
            raise Damaged(record.key) from None

    def entries(self) -> list[Entry]:
        """Return what the audit log says of it."""
        return [
            Entry(
                f"{self.token}-{place}",
                self.at_ns,
                self.actor,
                change.verb,
                f"{change.kind}/{change.name}",
                change.before,
                change.after,
            )
            for place, change in enumerate(self.changes)
        ]


def overlaid(view: View) -> tuple[Commit, Mapping[Id, Record]]:
    """Return the newest write and the records as they stand with it."""
    commit = Commit.decode(view.get(COMMIT))
    records = {of: record for each, record in view.items() if (of := id_of(each))}
    for change in commit.changes:
        of = (change.kind, change.name)
        if change.after is None:
            records.pop(of, None)
        elif of not in records or document_of(records[of]) != change.after:
            records[of] = Record(key(of), commit.revision, encoded(change.after).encode())
    return commit, records


def text_of(record: Record) -> str:
    """Return the document as text."""
    return record.body.decode(errors="replace")


def document_of(record: Record) -> Doc:
    """Return the document.

    Raises:
        ConfigError: It is no JSON.
    """
    data = stored(text_of(record)).data
    return data if isinstance(data, dict) else {}
