"""Which places for calls under way this node asks of the others, and gives back."""

import asyncio
from asyncio import Future
from collections.abc import Sequence

from gateway.limits.counters import Gate
from wherry.store.bounds import MAX_STEPS
from wherry.store.steps import Held, Hold

Claim = tuple[Gate, Hold]
"""A gate and what is claimed for it."""


class Claims:
    """The gates of one node that the Store has to hear of.

    Args:
        node: Who claims.
        seconds: How long a claim lasts without being renewed.

    Attributes:
        waiting: Calls that wait for a place.
    """

    def __init__(self, node: str, seconds: float) -> None:
        self._node, self._seconds = node, seconds
        self.waiting = 0
        self._queues: dict[Gate, list[Future[bool]]] = {}
        self._changed: dict[Gate, None] = {}
        self._held: set[Gate] = set()
        self._less: dict[Gate, int] = {}

    def enter(self, gate: Gate) -> "Future[bool]":
        """Wait for a place; a result of True has taken it."""
        answer: Future[bool] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(gate, []).append(answer)
        self._changed[gate] = None
        self.waiting += 1
        return answer

    def spared(self, gate: Gate, nodes: int) -> bool:
        """Return whether ``gate`` has places to give back; if so, they go with the next claims."""
        if gate.share - gate.in_use <= gate.spare(nodes):
            return False
        self._changed[gate] = None
        return True

    def renew_all(self) -> None:
        """Claim again what is held."""
        self._changed.update(dict.fromkeys(self._held))

    def give_up(self) -> None:
        """Give back everything; calls that are still under way no longer count."""
        for gate in self._held:
            gate.in_use = 0
            self._changed[gate] = None

    def next(self, nodes: int) -> list[Claim]:
        """Return the claims to make now, at most one for each gate."""
        claims = []
        for gate in list(self._changed)[:MAX_STEPS]:
            del self._changed[gate]
            needed = gate.in_use + len(self._queues.get(gate, ()))
            amount = min(gate.most, needed + gate.spare(nodes)) if needed else 0
            amount = min(amount, self._less.pop(gate, amount))
            gate.share = min(gate.share, amount)
            claims.append((gate, Hold(gate.name, self._node, amount, gate.most, self._seconds)))
        return claims

    def answered(self, claims: Sequence[Claim], held: Sequence[Held], now: int) -> None:
        """Hand out what was granted; a claim for too much is made again for what there is.

        The second claim also renews what this node has, which a refused one does not.
        """
        for (gate, claim), found in zip(claims, held, strict=True):
            possible = gate.share + max(0, gate.most - found.total)
            if not found.passed and possible < claim.amount:
                self._less[gate] = possible
                self._changed[gate] = None
                continue
            gate.share = claim.amount if found.passed else 0
            self._hand_out(gate, now)
            if gate.share:
                self._held.add(gate)
            else:
                self._held.discard(gate)

    def lost(self, claims: Sequence[Claim]) -> None:
        """Make claims again that may or may not have arrived."""
        for gate, _ in claims:
            self._changed[gate] = None

    def refuse(self, error: Exception) -> None:
        """Answer everyone who waits with ``error``."""
        queues, self._queues, self.waiting = self._queues, {}, 0
        for answer in (each for queue in queues.values() for each in queue):
            if not answer.done():
                answer.set_exception(error)

    def _hand_out(self, gate: Gate, now: int) -> None:
        queue = self._queues.pop(gate, [])
        self.waiting -= len(queue)
        for answer in queue:
            if answer.done():
                continue
            if gate.in_use < gate.share:
                gate.in_use += 1
                answer.set_result(True)
            else:
                gate.full_at = now
                answer.set_result(False)
