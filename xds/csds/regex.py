r"""Regular expressions from strangers, matched in time linear in the text.

Python's own engine backtracks, so that a short pattern can hold it up for hours. This one follows
all ways through the pattern at once. It reads what RE2 and Python have in common: literals, ``.``,
classes, ``\d \w \s`` and their opposites, groups, ``|``, ``* + ?`` and ``{m,n}``. A text matches
when all of it does.

Source: https://swtch.com/~rsc/regexp/regexp1.html; https://github.com/google/re2/wiki/Syntax
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from wherry.errors import WherryError

MAX_STATES = 200
"""Largest automaton that a pattern may become."""
MAX_REPEAT = 100
"""Largest count in ``{m,n}``."""
MAX_DEPTH = 50
"""Deepest nesting of groups."""

_Test = Callable[[str], bool]


class BadPattern(WherryError):
    """A pattern that cannot be read, or is too large."""


@dataclass(slots=True, eq=False)
class _State:
    """Consumes a character that passes ``test``; without a test, goes on at once."""

    test: _Test | None = None
    out: "list[_State]" = field(default_factory=list)


def regex_test(pattern: str) -> Callable[[str], bool]:
    """Return whether a text as a whole matches ``pattern``, as a function of the text.

    Raises:
        BadPattern: It is not of the forms above, or too large.
    """
    start, final = _Parser(pattern).parsed()

    def test(text: str) -> bool:
        states = _reached([start])
        for character in text:
            states = _reached([s.out[0] for s in states if s.test and s.test(character)])
            if not states:
                return False
        return final in states

    return test


def _reached(states: list[_State]) -> set[_State]:
    """Return ``states`` and all that can be reached from them without a character."""
    found: set[_State] = set()
    waiting = list(states)
    while waiting:
        state = waiting.pop()
        if state not in found:
            found.add(state)
            if state.test is None:
                waiting.extend(state.out)
    return found


def _between(first: str, last: str) -> _Test:
    return lambda given: first <= given <= last


_Part = tuple[_State, _State]
"""First and last state of a piece of the automaton; the last has no way out yet."""

_Piece = Callable[[], _Part]
"""Builds such a piece anew, so that it can be repeated."""


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._text, self._at, self._depth, self._states = pattern, 0, 0, 0

    def parsed(self) -> _Part:
        piece = self._either()
        if self._at < len(self._text):
            raise self._bad("an unmatched )")
        return piece()

    def _either(self) -> _Piece:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._bad(f"groups nested deeper than {MAX_DEPTH}")
        pieces = [self._sequence()]
        while self._taken("|"):
            pieces.append(self._sequence())
        self._depth -= 1
        return pieces[0] if len(pieces) == 1 else lambda: self._alternatives(pieces)

    def _sequence(self) -> _Piece:
        pieces: list[_Piece] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            pieces.append(self._repeated(self._atom()))
        return lambda: self._chain(pieces)

    def _repeated(self, piece: _Piece) -> _Piece:
        bounds = self._bounds()
        if bounds is None:
            return piece
        self._taken("?")
        if self._bounds() is not None:
            raise self._bad("a repetition of a repetition")
        least, most = bounds
        return lambda: self._times(piece, least, most)

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._taken(sign):
                return bounds
        if not self._taken("{"):
            return None
        inside, closed, _ = self._text[self._at :].partition("}")
        first, comma, last = inside.partition(",")
        least, most = self._count(first), self._count(last) if last else None
        self._at += len(inside) + 1
        if not comma:
            most = least
        if not closed or (most is not None and most < least):
            raise self._bad("a repetition that ends before it starts")
        return least, most

    def _count(self, digits: str) -> int:
        if not (digits.isascii() and digits.isdigit() and int(digits[:9]) <= MAX_REPEAT):
            raise self._bad(f"a repetition that is not a number of at most {MAX_REPEAT}")
        return int(digits[:9])

    def _atom(self) -> _Piece:
        character = self._next()
        match character:
            case "(":
                return self._group()
            case "^" if self._at == 1:
                return lambda: self._chain([])
            case "$" if self._at == len(self._text):
                return lambda: self._chain([])
            case "^" | "$" | "*" | "+" | "?" | "{":
                raise self._bad(f"{character!r} where it means nothing")
            case _:
                return self._one(self._single(character))

    def _group(self) -> _Piece:
        if self._taken("?") and not self._taken(":"):
            raise self._bad("a group of a kind that is not read")
        piece = self._either()
        if not self._taken(")"):
            raise self._bad("a group without an end")
        return piece

    def _single(self, character: str) -> _Test:
        match character:
            case "[":
                return self._class()
            case ".":
                return lambda given: given != "\n"
            case "\\":
                return self._escaped()
            case _:
                return lambda given: given == character

    def _class(self) -> _Test:
        negative = self._taken("^")
        tests: list[_Test] = []
        while not self._taken("]"):
            first = self._next()
            if first == "\\":
                tests.append(self._escaped())
                continue
            if first == "[":
                raise self._bad("[ in a class")
            last = first
            if self._text[self._at : self._at + 1] == "-" and self._text[self._at + 1 :][:1] != "]":
                self._next()
                last = self._next()
            if last < first:
                raise self._bad("a range that ends before it starts")
            tests.append(_between(first, last))
        if not tests:
            raise self._bad("an empty class")
        return lambda given: any(test(given) for test in tests) != negative

    def _escaped(self) -> _Test:
        character = self._next()
        known: dict[str, _Test] = {
            "d": lambda given: given in "0123456789",
            "w": lambda given: given == "_" or (given.isascii() and given.isalnum()),
            "s": lambda given: given in "\t\n\f\r ",
        }
        if character in known:
            return known[character]
        if character.lower() in known:
            opposite = known[character.lower()]
            return lambda given: not opposite(given)
        if character in "nrtf":
            meant = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}[character]
            return lambda given: given == meant
        if character.isalnum():
            raise self._bad(f"\\{character}, which is not read")
        return lambda given: given == character

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise self._bad("an end where something must follow")
        self._at += 1
        return self._text[self._at - 1]

    def _taken(self, character: str) -> bool:
        if self._text[self._at : self._at + 1] != character:
            return False
        self._at += 1
        return True

    def _bad(self, found: str) -> BadPattern:
        return BadPattern(
            f"pattern {self._text[:50]!r}: {found} at {self._at}, expected a regular expression "
            "of literals, classes, groups, | and repetitions"
        )

    def _state(self, test: _Test | None = None) -> _State:
        self._states += 1
        if self._states > MAX_STATES:
            raise BadPattern(
                f"pattern {self._text[:50]!r}: over {MAX_STATES} states, expected at most that"
            )
        return _State(test)

    def _one(self, test: _Test) -> _Piece:
        def build() -> _Part:
            first, last = self._state(test), self._state()
            first.out.append(last)
            return first, last

        return build

    def _alternatives(self, pieces: list[_Piece]) -> _Part:
        first, last = self._state(), self._state()
        for piece in pieces:
            start, end = piece()
            first.out.append(start)
            end.out.append(last)
        return first, last

    def _chain(self, pieces: list[_Piece]) -> _Part:
        first = last = self._state()
        for piece in pieces:
            start, end = piece()
            last.out.append(start)
            last = end
        return first, last

    def _times(self, piece: _Piece, least: int, most: int | None) -> _Part:
        first = last = self._state()
        for _ in range(least):
            start, end = piece()
            last.out.append(start)
            last = end
        final = self._state()
        if most is None:
            start, end = piece()
            loop = self._state()
            last.out.append(loop)
            loop.out.extend((start, final))
            end.out.append(loop)
            return first, final
        for _ in range(most - least):
            start, end = piece()
            last.out.extend((start, final))
            last = end
        last.out.append(final)
        return first, final
