"""The catalogue as it was found in one look."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wherry.config.stored import Held, Id, path
from wherry.resources.commit import Commit, document_of, text_of
from wherry.store import Record


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at everything.

    Attributes:
        commit: The newest write.
        records: What the Store holds, as that write leaves it.
        files: Contents by path.
        declared: What the files declare of `KINDS`.
    """

    commit: Commit
    records: Mapping[Id, Record]
    files: Mapping[Path, str]
    declared: Mapping[Id, Held]

    def texts(self) -> dict[Path, str]:
        """Return what the Store holds, as the configuration is assembled of it."""
        return {path(of): text_of(record) for of, record in self.records.items()}

    def held(self, of: Id) -> Held | None:
        """Return a resource, or None when there is none."""
        if of in self.declared:
            return self.declared[of]
        record = self.records.get(of)
        if record is None:
            return None
        return Held(*of, record.revision, document_of(record))
