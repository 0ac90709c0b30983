"""What one node knows of counts that others may count in too: what the Store said, and since.

A node admits calls from this knowledge and reports them afterwards, in batches. All that nodes
have not reported is at most ``near`` units: a hundredth of a quota, half that of a rate, and
each node's batch is its part of it. So at most that many are let through too many. Within
``near`` of the limit, and where that is less than one unit for each node, the Store is asked for
each call.

What a rate was charged late may have flowed back meanwhile, had it been charged in time. That is
at most ``near`` again, which the Store therefore lets through on top, so that nobody gets less
than the rate.

A refusal from knowledge is one that the Store would make too, as counts only rise; a count that
was given back is seen after `STALE` at the latest. A node that is alone (``nodes`` is 0) knows
everything, once it has read what an earlier run left.

Pure: whoever uses this reads the clock and speaks with the Store.
"""

from math import ceil

from gateway.limits.allowance import CONCURRENCY, Pace, Share
from gateway.limits.limiter import ADMIT, ASK, REFUSE, Counter, Verdict
from gateway.limits.windows import SECOND, Window
from wherry.store.steps import Advance, Advanced

STALE = SECOND
"""Age in nanoseconds from which a refusal is asked for again."""

FRESH = SECOND // 10
"""Age in nanoseconds up to which a count of what calls turn out to use is good enough."""

FULL = SECOND // 20
"""How long in nanoseconds nodes that share places take them for full, once they were."""

_MOST_USED = 1 << 56
_DAY = 86_400
_YEAR = 366 * _DAY


class Bucket:
    """What flowed out under a `Pace`; its level in the Store is when it is full again.

    Args:
        pace: The limit.
        level: Name in the Store; says the limit too, so another limit begins with a full bucket.
    """

    __slots__ = (
        "__weakref__",
        "_keeps",
        "dirty",
        "due",
        "level",
        "pace",
        "policy",
        "seen",
        "sent",
        "since",
        "spent",
    )

    def __init__(self, pace: Pace, level: str) -> None:
        self.pace, self.level, self.policy = pace, level, pace.name
        self.due = self.since = self.sent = self.spent = self.seen = 0
        self.dirty = False
        self._keeps = min(_YEAR, pace.room / SECOND + 60)

    def check(self, cost: int, now: int, nodes: int) -> Verdict:
        """See `Limiter.check`."""
        pace, due = self.pace, self.due
        if due < now:
            due = now
        elif not nodes and due > now + pace.room:  # the clock was set back
            due = self.due = now + pace.room
        step = pace.interval if pace.fixed else cost * pace.interval
        left = now + pace.room - due - step
        if not nodes or not step:
            return REFUSE if left < 0 and step else ADMIT
        told = self.seen and (self.sent + self.spent + step) * nodes <= pace.near
        if left < pace.near or not told:
            return REFUSE if left < -pace.near and now - self.seen < STALE else ASK
        return ADMIT

    def spend(self, cost: int, now: int, nodes: int, parts: int = 1) -> Counter | None:
        """See `Limiter.spend`."""
        pace = self.pace
        step = pace.interval if pace.fixed else cost * pace.interval
        self.due = (now if self.due < now else self.due) + step * parts
        if not nodes:
            return None
        if not self.spent:
            self.since = now
        self.spent += step
        return self._owed()

    def refund(self, cost: int) -> Counter | None:
        """See `Limiter.refund`."""
        step = self._step(cost)
        self.due -= step
        self.spent -= step
        return self._owed()

    def alone(self, cost: int, now: int, nodes: int) -> bool:
        """See `Limiter.alone`: units flow back to each node at its part of the pace."""
        step = self._step(cost) * nodes
        return max(self.due, now) + step <= now + max(self.pace.room, step)

    def item(self, now: int) -> str:
        """See `Limiter.item`; spike arrest says nothing, as there is nothing to save up."""
        pace = self.pace
        if pace.fixed:
            return ""
        used = self.due - now
        if used <= 0:
            return f'"{self.policy}";r={pace.room // pace.interval};t=0'
        left = max(0, pace.room - used) // pace.interval
        return f'"{self.policy}";r={left};t={-(-used // SECOND)}'

    def wait(self, cost: int, now: int) -> float | None:
        """See `Limiter.wait`."""
        step = self._step(cost)
        if step > self.pace.room:
            return None
        return max(0, self.due + step - now - self.pace.room) / SECOND

    def ask(self, cost: int, now: int) -> Advance:
        """Return the step that asks the Store for a call."""
        most = now + self.pace.room + self.pace.near
        return Advance(self.level, self._step(cost), now, most, self._keeps)

    def report(self, now: int) -> Advance:
        """See `Counter.report`: as if all was spent when the first was, which lends nothing."""
        self.sent = spent = self.spent
        self.spent, self.dirty = 0, False
        return Advance(self.level, spent, self.since if spent > 0 else None, None, self._keeps)

    def answered(self, found: Advanced, now: int) -> None:
        """See `Counter.answered`."""
        self.due = (max(found.value, self.since) if self.spent > 0 else found.value) + self.spent
        self.sent, self.seen = 0, now

    def lost(self, nodes: int) -> bool:
        """See `Counter.lost`: what may have been counted is not counted again."""
        self.sent = 0
        return False

    def _step(self, cost: int) -> int:
        return self.pace.interval if self.pace.fixed else cost * self.pace.interval

    def _owed(self) -> Counter | None:
        if self.dirty:
            return None
        self.dirty = True
        return self


class Count:
    """What was used in one window, by whoever shares the count.

    Args:
        level: Name in the Store; says the window too.
        window: What it counts.
    """

    __slots__ = (
        "__weakref__",
        "dirty",
        "known",
        "level",
        "seen",
        "sent",
        "spent",
        "unsure",
        "window",
    )

    def __init__(self, level: str, window: Window) -> None:
        self.level, self.window = level, window
        self.known = self.sent = self.spent = self.seen = 0
        self.dirty = self.unsure = False

    def used(self) -> int:
        """Return units of the window, as far as this node knows."""
        return self.known + self.sent + self.spent

    def add(self, units: int) -> Counter | None:
        """Count ``units``, which may be given back; return itself if a report becomes due.

        Far over every quota nothing more is counted, so that counts fit in the Store.
        """
        self.spent += min(units, max(0, _MOST_USED - self.used()))
        return self._owed() if units else None

    def step(self, n: int, most: int | None, now: int) -> Advance:
        """Return a step of the level, which is kept for a day longer than its window."""
        keeps = max(0, self.window.ends - now) / SECOND + _DAY
        return Advance(self.level, n, None, most, min(_YEAR, keeps))

    def report(self, now: int) -> Advance:
        """See `Counter.report`."""
        if self.unsure:
            return self.step(0, None, now)
        self.sent, self.spent, self.dirty = self.spent, 0, False
        return self.step(self.sent, None, now)

    def answered(self, found: Advanced, now: int) -> None:
        """See `Counter.answered`."""
        if self.unsure:  # alone, and so the only one who counts: the rest did not arrive
            self.spent = self.used() - found.value
            self.unsure = False
        self.known, self.sent, self.seen = found.value, 0, now

    def lost(self, nodes: int) -> bool:
        """See `Counter.lost`: who is alone asks; with others nobody can tell, and it stands."""
        if nodes or not self.seen:
            self.known, self.sent = self.known + self.sent, 0
            return False
        self.unsure = True
        return self._owed() is not None

    def _owed(self) -> Counter | None:
        if self.dirty:
            return None
        self.dirty = True
        return self


class Counted:
    """A `Share` and its count in this window."""

    __slots__ = ("count", "policy", "share")

    def __init__(self, share: Share, count: Count) -> None:
        self.share, self.count, self.policy = share, count, share.name

    def check(self, cost: int, now: int, nodes: int) -> Verdict:
        """See `Limiter.check`."""
        share, count = self.share, self.count
        need = cost if share.requests else 1
        if not need:
            return ADMIT
        left = share.limit - count.known - count.sent - count.spent - need
        if left < 0:
            sure = count.seen and (not nodes or now - count.seen < STALE)
            return REFUSE if sure else ASK
        if not count.seen:
            return ASK
        if not nodes:
            return ADMIT
        if not share.requests:
            return ADMIT if now - count.seen < FRESH else ASK
        told = (count.sent + count.spent + need) * nodes <= share.near
        return ASK if left < share.near or not told else ADMIT

    def spend(self, cost: int, now: int, nodes: int, parts: int = 1) -> Counter | None:
        """See `Limiter.spend`; other meters are counted when it is known how much was used."""
        return self.count.add(cost) if self.share.requests else None

    def refund(self, cost: int) -> Counter | None:
        """See `Limiter.refund`."""
        return self.count.add(-cost) if self.share.requests else None

    def alone(self, cost: int, now: int, nodes: int) -> bool:
        """See `Limiter.alone`: each node takes its part of what was left."""
        count = self.count
        mine = count.sent + count.spent + (cost if self.share.requests else 1)
        return mine * nodes <= self.share.limit - count.known

    def item(self, now: int) -> str:
        """See `Limiter.item`."""
        count = self.count
        left = self.share.limit - count.known - count.sent - count.spent
        wait = -((now - count.window.ends) // SECOND)
        return f'"{self.policy}";r={left if left > 0 else 0};t={wait if wait > 0 else 0}'

    def wait(self, cost: int, now: int) -> float | None:
        """See `Limiter.wait`."""
        if self.share.requests and cost > self.share.limit:
            return None
        return max(0, self.count.window.ends - now) / SECOND

    def ask(self, cost: int, now: int) -> Advance:
        """Return the step that asks the Store for a call."""
        if self.share.requests:
            return self.count.step(cost, self.share.limit, now)
        return self.count.step(0, self.share.limit - 1, now)

    def policy_item(self) -> str:
        """Return the item of the ``RateLimit-Policy`` field."""
        window = self.count.window
        seconds = (window.ends - window.begins) // SECOND
        return f'"{self.policy}";q={self.share.limit}{self.share.unit};w={seconds}'


class Gate:
    """Places for calls under way: this node's share of them, and what it uses.

    Args:
        most: Places of all nodes together.
        name: In the Store.
    """

    __slots__ = ("__weakref__", "dirty", "full_at", "in_use", "most", "name", "policy", "share")

    def __init__(self, most: int, name: str) -> None:
        self.most, self.name, self.policy = most, name, CONCURRENCY
        self.in_use = self.share = self.full_at = 0
        self.dirty = False

    def check(self, cost: int, now: int, nodes: int) -> Verdict:
        """See `Limiter.check`."""
        if not nodes:
            return ADMIT if self.in_use < self.most else REFUSE
        if self.in_use < self.share:
            return ADMIT
        return REFUSE if now - self.full_at < FULL else ASK

    def spend(self, cost: int, now: int, nodes: int, parts: int = 1) -> Counter | None:
        """See `Limiter.spend`; a place is taken until it is given back."""
        self.in_use += 1
        return None

    def refund(self, cost: int) -> Counter | None:
        """See `Limiter.refund`."""
        self.in_use -= 1
        return None

    def alone(self, cost: int, now: int, nodes: int) -> bool:
        """See `Limiter.alone`."""
        return self.in_use < max(self.share, self.most // nodes, 1)

    def item(self, now: int) -> str:
        """See `Limiter.item`."""
        return f'"{self.policy}";r={max(0, self.most - self.in_use)}'

    def wait(self, cost: int, now: int) -> float | None:
        """See `Limiter.wait`: nobody knows when a call will end."""
        return 1.0

    def spare(self, nodes: int) -> int:
        """Return places to keep beyond those in use: a hundredth over all nodes."""
        return self.most // (100 * nodes)


def rounded(wait: float) -> int:
    """Return a wait in whole seconds, at least 1."""
    return max(1, ceil(wait))
