"""What one client wants, holds and was told, and what may therefore go out next.

Three rules make every change safe, whatever the client answers and whenever:

1. *Add before use.* A resource goes out only when the client has acknowledged everything that it
   needs in earlier types (`Snapshot.reach`), as far as the client asked for it. Until then the
   client keeps what it holds.
2. *Remove after use.* A resource that is no longer desired stays until nothing that the client
   holds, was sent, or may hold after a refusal refers to it; a cluster then stays for a while
   longer, for the requests that are still on their way.
3. *One at a time.* Per type at most one response is unacknowledged. Newer state waits and then
   goes straight to the newest, so that a slow client costs no queue.

What a client refuses is parked: that content is not sent again until it changes. If the refusal
names some of the resources, the others go out without them; if it names none, halves are tried.

A client that holds exactly one snapshot costs what changed since, not what there is.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#eventual-consistency-considerations
"""

from collections.abc import Mapping

from xds import lives
from xds.holdings import Holdings
from xds.hosts import awaited, own_names
from xds.memory import Memory, NoMemory
from xds.names import is_collection
from xds.press import Form, Press, Response
from xds.resource import CLUSTER, FULL_STATE, ROUTE, VIRTUAL_HOST, Resource, TypeUrl
from xds.snapshot import NONE, Named, Snapshot, version_of
from xds.subscription import Batch, Nack, Subscription, plain
from xds.warming import Warming

DRAINED = frozenset({CLUSTER})
"""Types whose unused resources stay for the drain time."""


class Ledger:
    """All subscriptions of one stream against one desired state.

    Args:
        form: How responses are written. Only the incremental form can say that a resource is
            gone; the others do so by leaving it out, for the types in `FULL_STATE`.
        press: Where responses are made.
        drain: Seconds that an unused cluster stays.
        memory: Says what a client holds that comes back with older content.
    """

    def __init__(
        self, form: Form, press: Press, *, drain: float = 0.0, memory: Memory | None = None
    ) -> None:
        self._holdings, self._warming = Holdings(), Warming()
        self.form = form
        self._delta = form is Form.DELTA
        self._press, self._drain = press, drain
        self.memory: Memory = memory or NoMemory()
        self._goal: Snapshot | None = None
        self._calm = self._timed = False

    @property
    def subscriptions(self) -> Mapping[TypeUrl, Subscription]:
        """Every subscription by type."""
        return self._holdings.by_type

    @property
    def nacks(self) -> dict[TypeUrl, Nack]:
        """Standing refusals by type."""
        return {
            s.type_url: nack for s in self._holdings.ordered if (nack := s.standing) is not None
        }

    @property
    def goal(self) -> Snapshot | None:
        """The desired state."""
        return self._goal

    @property
    def settled(self) -> bool:
        """Whether every subscription is known to hold what is desired.

        What nobody uses any more and is about to be removed may still be there.
        """
        if self._goal is None:
            return False
        for sub in self._holdings.ordered:
            if sub.flight is not None or sub.again or sub.owed:
                return False
            if sub.version not in (sub.settled, sub.reached):
                return False
        return True

    def subscribe(self, type_url: TypeUrl) -> Subscription:
        """Open the subscription of one type; the caller fills in what is wanted."""
        subscription = Subscription(type_url)
        if self._goal is not None:
            subscription.version = self._goal.version(type_url)
        self._holdings.add(subscription)
        self.stir()
        return subscription

    def stir(self) -> None:
        """Look again at what waits for another type."""
        for sub in self._holdings.ordered:
            if sub.withheld or sub.lingers:
                sub.stale = True

    def adopt(self, goal: Snapshot) -> None:
        """Make ``goal`` the desired state."""
        self._goal = goal
        for sub in self._holdings.ordered:
            version = sub.version = goal.version(sub.type_url)
            if sub.base is not None:
                if sub.settled == version:
                    sub.base = goal
                else:
                    sub.stale = True
                continue
            if sub.reached != version:
                sub.stale = True
            if sub.parked:
                sub.unpark(goal)
        if not self._calm:
            self.stir()

    def answered(self, sub: Subscription, error: str | None) -> bool:
        """Take the client's answer to the response in flight: an ACK, or a NACK with a reason.

        Returns:
            Whether something may be `due` because of it.
        """
        batch, sub.flight = sub.flight, None
        if batch is None:
            return False
        if error is None:
            whole = not self._delta and batch.type_url in FULL_STATE and not batch.beats
            sub.accepted(batch, whole=whole)
        else:
            sub.rejected(batch, error)
            if self._goal is not None:
                sub.unpark(self._goal)
        if sub.base is not None and sub.done and not sub.owed:
            if self._calm and not sub.again:
                return False
        else:
            sub.stale = True
        self.stir()
        return True

    def wake_at(self) -> float | None:
        """Return when `due` should be asked again although nothing happens: seconds, or None."""
        if not self._timed:
            return None
        times = [
            at
            for sub in self._holdings.ordered
            if (sub.leaving or sub.beats) and sub.flight is None
            for at in (*sub.leaving.values(), *sub.beats.values())
        ]
        return min(times, default=None)

    def due(self, now: float) -> list[Response]:
        """Return the responses that may go out now, and count them as sent."""
        goal = self._goal
        responses: list[Response] = []
        if goal is None:
            return responses
        if self._calm:  # then nothing but a new version can be the reason
            for sub in self._holdings.ordered:
                if sub.stale and sub.flight is None:
                    break
            else:
                return responses
        calm, timed = True, False
        for sub in self._holdings.ordered:
            if sub.flight is None and (sub.stale or sub.again or sub.owed or sub.over(now)):
                sub.stale = False
                response = self._quick(sub, goal) or self._slow(sub, goal, now)
                if response is not None:
                    responses.append(response)
            if sub.leaving or sub.beats:
                calm, timed = False, True
            elif sub.withheld or sub.lingers or sub.again or sub.owed:
                calm = False
        self._calm, self._timed = calm, timed
        return responses

    def _quick(self, sub: Subscription, goal: Snapshot) -> Response | None:
        """Return the response to a client that holds one snapshot exactly, if that is simple.

        Streams that are in the same state share the step from one snapshot to the next.
        """
        base = sub.base
        if base is None or sub.owed or sub.type_url == VIRTUAL_HOST:
            return None
        step = self._press.step(self.form, sub.type_url)
        if not (step.base is base and step.goal is goal and step.wanted is sub.wanted):
            step.take(base, goal, sub.wanted, _put(sub, base, goal, self._press))
        put = step.put
        if put is None or not self._ready(sub, goal, put):
            return None
        if sub.again:
            wanted = sub.wanted.of(goal, sub.type_url)
            if not all(name in wanted for name in sub.again):
                return None
            put = {**put, **{name: wanted[name] for name in sorted(sub.again)}}
        if not put:
            sub.base, sub.settled = goal, sub.version
            sub.held = sub.wanted.of(goal, sub.type_url)
            return None
        batch, response = step.batch, step.response
        if (
            put is not step.put
            or batch is None
            or response is None
            or response.serial <= sub.serial
        ):
            batch = _exactly(sub, goal, put)
            response = self._press.response(self.form, batch, sub.serial)
            if put is step.put:
                step.batch, step.response = batch, response
        return self._sent(sub, batch, response)

    def _slow(self, sub: Subscription, goal: Snapshot, now: float) -> Response | None:
        """Return the response to a client that is anywhere on its way, if one is due."""
        batch = self._next(sub, goal, now)
        while batch is None and sub.trials:  # the suspects on trial wait for another type
            batch = self._next(sub, goal, now)
        if batch is None and sub.beats:
            # In the state of the world Envoy takes a resource without a body for one that is
            # empty, or, where it does not, lets it die all the same.
            batch = lives.renewal(sub, goal, now, whole=not self._delta)
        if batch is None:
            return None
        response = self._press.response(self.form, batch, sub.serial)
        if self.form is not Form.SOTW:
            lives.note(sub, batch, now)
        return self._sent(sub, batch, response)

    def _ready(self, sub: Subscription, goal: Snapshot, put: Named) -> bool:
        """Return whether the client has everything that any of ``put`` needs."""
        if not put or self._holdings.earlier_done(sub):
            return True
        return all(
            self._holdings.has(ref, goal) for each in put.values() for ref in goal.reach(each)
        )

    def _next(self, sub: Subscription, goal: Snapshot, now: float) -> Batch | None:
        if sub.base is not None and sub.done and not (sub.again or sub.owed):
            return None
        type_url, version = sub.type_url, sub.version
        if sub.trials and not sub.claims:
            sub.next_trial()
        listed = sub.wanted.of(goal, type_url)
        desired, sub.held = plain(listed), plain(sub.held)
        if type_url == VIRTUAL_HOST and sub.owed and self._delta:
            sub.again |= awaited(goal, goal.named(ROUTE).values())
        sub.again = own_names(goal, type_url, sub.again)
        if sub.claims:
            self._compare_claims(sub, desired)
        newest, withheld = self._target(sub, goal, desired)
        lingers, waits, goes = self._leave(sub, goal, desired, now)
        target: Named = {**newest, **lingers}
        changed: Named = {n: r for n, r in target.items() if _differs(sub, n, r, withheld)}
        if not (withheld or lingers) and len(changed) == len(target):
            target = changed = listed
        reaches = None if withheld or waits else version
        settles = reaches if not lingers else None
        sub.withheld = bool(withheld)
        missing = self._missing(sub, goal, withheld | target.keys(), goes)
        removed = tuple(sorted({*goes, *missing}))
        if not (changed or removed):
            waiting = any(name not in target and name not in sub.parked for name in withheld)
            if not sub.owed or waiting:
                sub.again &= desired.keys()
                clear = not (sub.again or sub.owed)
                sub.settled, sub.reached = (settles, reaches) if clear else (None, None)
                if clear and settles is not None and sub.plain:
                    sub.base, sub.held = goal, listed
                sub.calm(desired)
                return None
        exact = settles is not None
        batch = Batch(
            type_url,
            version if exact else version_of(target.values()),
            listed if exact else target,
            changed,
            removed,
            missing,
            (),
            sub.wanted,
            settles,
            reaches,
            goal,
        )
        asked = sub.owed or not sub.again.isdisjoint((*changed, *removed))
        if sub.refused and batch.content == sub.refused and not asked:
            return None
        return batch

    def _missing(
        self, sub: Subscription, goal: Snapshot, there: set[str], goes: set[str]
    ) -> tuple[str, ...]:
        """Return the names that were asked for and do not exist; a collection always does."""
        if not (sub.again and self._delta):
            return ()
        stays = {*sub.held, *sub.doubt} - goes
        names = sub.again - there - stays
        return tuple(
            sorted(n for n in names if not is_collection(sub.type_url, n, goal.find(ROUTE, n)))
        )

    def _compare_claims(self, sub: Subscription, desired: Named) -> None:
        """Believe the client where it claims to hold what is or lately was desired."""
        sub.again |= self._warming.claimed(sub)
        held = dict(sub.held)
        for name, version in sub.claims.items():
            resource = desired.get(name)
            if resource is None or resource.version != version:
                resource = self.memory.one(sub.type_url, name, version)
            if resource is None:
                sub.doubt[name] = None
            else:
                held[name] = resource
        sub.held = held
        sub.claims.clear()

    def _target(
        self, sub: Subscription, goal: Snapshot, desired: Named
    ) -> tuple[dict[str, Resource], set[str]]:
        """Return what the client should hold of the goal, and which of it is not the newest."""
        target: dict[str, Resource] = {}
        withheld: set[str] = set()
        free = self._holdings.earlier_done(sub)
        for name, resource in desired.items():
            old, fault = sub.held.get(name), sub.parked.get(name)
            if (fault is None or fault.version != resource.version) and (
                free
                or old == resource
                or all(self._holdings.has(ref, goal) for ref in goal.reach(resource))
            ):
                target[name] = resource
                continue
            withheld.add(name)
            if old is not None:
                target[name] = old
        return target, withheld

    def _leave(
        self, sub: Subscription, goal: Snapshot, desired: Named, now: float
    ) -> tuple[dict[str, Resource], bool, set[str]]:
        """Return what stays although it is not desired, whether that waits for others, what goes.

        It waits for others as long as something that itself stays may need it.
        """
        gone = {*sub.held, *sub.doubt} - desired.keys()
        sub.lingers = False
        for name in sub.leaving.keys() - gone:
            del sub.leaving[name]
        if not gone:
            return {}, False, set()
        if not (self._delta or sub.type_url in FULL_STATE):
            # Only the client can let go of it, and does when it has no more use for it.
            return {name: sub.held[name] for name in sorted(gone) if name in sub.held}, False, set()
        used, needed = self._holdings.in_use(sub.type_url, gone, goal)
        unused = set() if used is None else gone - used
        sub.lingers = len(unused) < len(gone)
        for name in gone - unused:
            sub.leaving.pop(name, None)
        goes = unused
        if self._drain and sub.type_url in DRAINED:
            for name in unused:
                sub.leaving.setdefault(name, now + self._drain)
            goes = {name for name in unused if sub.leaving[name] <= now}
        if sub.leaving:
            sub.base = None
        stays = gone - goes
        lingers = {name: sub.held[name] for name in sorted(stays) if name in sub.held}
        return lingers, used is None or bool(stays & needed), goes

    def _sent(self, sub: Subscription, batch: Batch, response: Response) -> Response:
        sub.serial, sub.nonce, sub.flight = response.serial, response.nonce, batch
        if sub.again:
            sub.again -= {*batch.changed, *batch.removed}
        sub.owed, sub.settled, sub.reached = False, None, None
        self._warming.sent(sub, batch, self._holdings)
        hosts = self.subscriptions.get(VIRTUAL_HOST) if sub.type_url == ROUTE else None
        if hosts is not None and self._delta:
            hosts.again |= awaited(batch.goal, batch.changed.values())
        return response


def _put(sub: Subscription, base: Snapshot, goal: Snapshot, press: Press) -> Named | None:
    """Return what a client that holds ``base`` lacks of ``goal``; None when that is not simple.

    It is not where something goes, or lives for a time only.
    """
    change, wanted = press.changes(base, goal).get(sub.type_url), sub.wanted
    if change is None:
        return NONE
    put = change.put
    if any(map(wanted.covers, change.gone)) or any(r.ttl is not None for r in put.values()):
        return None
    if wanted.wildcard and goal.on_demand is None:
        return put
    listed = goal.named(sub.type_url)
    return {n: r for n, r in put.items() if n in wanted.names or (n in listed and wanted.covers(n))}


def _exactly(sub: Subscription, goal: Snapshot, put: Named) -> Batch:
    """Return the response that takes a client to ``goal`` by telling it ``put``."""
    version, wanted = sub.version, sub.wanted
    target = wanted.of(goal, sub.type_url)
    return Batch(sub.type_url, version, target, put, (), (), (), wanted, version, version, goal)


def _differs(sub: Subscription, name: str, resource: Resource, withheld: set[str]) -> bool:
    return (
        sub.held.get(name) != resource
        or name in sub.again
        or name in sub.unsure
        or (name in sub.doubt and name not in withheld)
    )
