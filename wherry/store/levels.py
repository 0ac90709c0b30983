"""Levels and shares in SQLite tables; the caller holds the transaction."""

import sqlite3
from collections.abc import Sequence

from wherry.store import bounds
from wherry.store.steps import Advance, Advanced, Held, Hold

SCHEMA = """
CREATE TABLE levels (
    name TEXT PRIMARY KEY, value INTEGER NOT NULL, ends_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX levels_by_end ON levels (ends_ns);
CREATE TABLE shares (
    name TEXT NOT NULL, holder TEXT NOT NULL, amount INTEGER NOT NULL, ends_ns INTEGER NOT NULL,
    PRIMARY KEY (name, holder)
) WITHOUT ROWID;
CREATE INDEX shares_by_end ON shares (ends_ns);
"""

_SWEPT = 64
"""Most ended rows that one call removes, beside what it does."""


def advance(db: sqlite3.Connection, steps: Sequence[Advance], now_ns: int) -> list[Advanced]:
    """See `Store.advance_all`."""
    db.execute(
        "DELETE FROM levels WHERE name IN "
        "(SELECT name FROM levels WHERE ends_ns <= ? ORDER BY ends_ns LIMIT ?)",
        (now_ns, _SWEPT),
    )
    return [_step(db, step, now_ns) for step in steps]


def hold(db: sqlite3.Connection, claims: Sequence[Hold], now_ns: int) -> list[Held]:
    """See `Store.hold_all`."""
    db.execute(
        "DELETE FROM shares WHERE (name, holder) IN "
        "(SELECT name, holder FROM shares WHERE ends_ns <= ? ORDER BY ends_ns LIMIT ?)",
        (now_ns, _SWEPT),
    )
    return [_claim(db, claim, now_ns) for claim in claims]


def _step(db: sqlite3.Connection, step: Advance, now_ns: int) -> Advanced:
    query = "SELECT value FROM levels WHERE name = ? AND ends_ns > ?"
    (held,) = db.execute(query, (step.level, now_ns)).fetchone() or (0,)
    base = held if step.floor is None else max(held, step.floor)
    value = bounds.counted(step.level, base + step.n)
    if step.most is not None and value > step.most:
        return Advanced(base, passed=False)
    if step.n:
        db.execute(
            "INSERT INTO levels VALUES (?1, ?2, ?3) "
            "ON CONFLICT (name) DO UPDATE SET value = ?2, ends_ns = ?3",
            (step.level, value, now_ns + bounds.lasting(step.level, step.seconds)),
        )
    return Advanced(value, passed=True)


def _claim(db: sqlite3.Connection, claim: Hold, now_ns: int) -> Held:
    query = "SELECT holder, amount FROM shares WHERE name = ? AND ends_ns > ?"
    live: dict[str, int] = dict(db.execute(query, (claim.name, now_ns)))
    mine, total = live.get(claim.holder, 0), sum(live.values())
    after = total - mine + claim.amount
    if claim.amount > mine and claim.most is not None and after > claim.most:
        return Held(total, passed=False)
    if claim.amount:
        db.execute(
            "INSERT INTO shares VALUES (?1, ?2, ?3, ?4) "
            "ON CONFLICT (name, holder) DO UPDATE SET amount = ?3, ends_ns = ?4",
            (
                claim.name,
                claim.holder,
                claim.amount,
                now_ns + bounds.lasting(claim.name, claim.seconds),
            ),
        )
    else:
        delete = "DELETE FROM shares WHERE name = ? AND holder = ?"
        db.execute(delete, (claim.name, claim.holder))
    return Held(after, passed=True)
