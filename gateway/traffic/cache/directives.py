"""What ``Cache-Control`` says.

Source: RFC 9111 section 5.2, RFC 5861, RFC 8246
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.call import Fields

_MOST_SECONDS = 1 << 31
"""Longer times count as this one (RFC 9111 section 1.2.2)."""

_DIRECTIVE = re.compile(
    r"[ \t,]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)"
    r"(?:[ \t]*=[ \t]*(?:(?P<token>[^\s\",;]+)|\"(?P<quoted>(?:[^\"\\]|\\.)*)\"))?[ \t]*(?=,|$)",
    re.ASCII,
)
_DIGITS = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Directives:
    """The directives of one message, by their names in lower case.

    Attributes:
        values: What each says; nothing when it stands alone.
        broken: Whether a part of the field cannot be read, or a directive is there twice with
            different values: then an answer is not kept.
    """

    values: Mapping[str, str]
    broken: bool = False

    @classmethod
    def of(cls, headers: Fields) -> "Directives":
        """Read the field of a message; ``Pragma: no-cache`` counts when it has none."""
        lines = headers.getall("Cache-Control", None)
        if lines is None:
            old = "no-cache" in headers.get("Pragma", "").lower()
            return cls({"no-cache": ""}) if old else NOTHING
        values, broken = dict[str, str](), False
        for line in lines:
            at = 0
            while line[at:].strip(" \t,"):
                found = _DIRECTIVE.match(line, at)
                if found is None:
                    broken = True
                    at = line.find(",", at + 1) if "," in line[at + 1 :] else len(line)
                    continue
                name = found["name"].lower()
                value = found["token"] or found["quoted"] or ""
                broken |= values.setdefault(name, value) != value
                at = found.end()
        return cls(values, broken)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def seconds(self, name: str) -> int | None:
        """Return the time that a directive gives; None: it is not there; 0: it is unreadable."""
        value = self.values.get(name)
        if value is None:
            return None
        if not _DIGITS.fullmatch(value):
            return 0
        return min(int(value), _MOST_SECONDS) if len(value) < 12 else _MOST_SECONDS  # noqa: PLR2004


NOTHING = Directives({})
"""Of a message that says nothing."""
