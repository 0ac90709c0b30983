"""Writers that die, race and refuse: the catalogue is always whole, and its log complete."""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.mortal import WITHOUT_END, Killed, Mortal

from wherry import audit
from wherry.audit import Entry
from wherry.config.stored import Absent
from wherry.errors import ConfigError
from wherry.resources import Resources
from wherry.store import Conflict
from wherry.store.memory import MemoryStore

PLANS, PRODUCTS = ["p1", "p2", "p3"], ["a", "b"]


def plan(name, title):
    return {
        "apiVersion": "wherry.dev/v1",
        "kind": "Plan",
        "metadata": {"name": name},
        "spec": {"title": title},
    }


def product(name, plans):
    routes = [{"path": f"/{name}", "to": {"mock": {"text": name}}}]
    return plan(name, "") | {"kind": "ApiProduct", "spec": {"routes": routes, "plans": plans}}


documents = st.one_of(
    st.builds(plan, st.sampled_from(PLANS), st.sampled_from(["x", "y"])),
    st.builds(
        product,
        st.sampled_from(PRODUCTS),
        st.lists(st.sampled_from(PLANS), min_size=1, max_size=2, unique=True),
    ),
)


def id_of(document):
    return document["kind"], document["metadata"]["name"]


def whole(model):
    plans = {name for kind, name in model if kind == "Plan"}
    return all(
        set(each["spec"]["plans"]) <= plans
        for (kind, _), each in model.items()
        if kind == "ApiProduct"
    )


class Catalogue(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = Mortal(MemoryStore(), WITHOUT_END)
        self.writers = [Resources(self.store, None) for _ in range(2)]
        self.model, self.noted = {}, 0

    def teardown(self):
        self.runner.close()

    def run(self, work):
        return self.runner.run(work)

    def became(self, after):
        changed = {of for of in {*self.model, *after} if self.model.get(of) != after.get(of)}
        self.model, self.noted = after, self.noted + len(changed)

    @rule(
        given=st.lists(documents, max_size=4, unique_by=id_of),
        prune=st.booleans(),
        writer=st.integers(0, 1),
        lives=st.just(WITHOUT_END) | st.integers(0, 8),
    )
    def apply(self, given, prune, writer, lives):
        kept = {} if prune else self.model
        after = {**kept, **{id_of(each): each for each in given}}
        self.store.left = lives
        try:
            self.run(self.writers[writer].apply(given, prune=prune, actor="w"))
        except ConfigError:
            assert not whole(after)
            return
        except Killed:
            self.store.left = WITHOUT_END
            self.forget_the_dead()
            if self.held(0) != self.model:  # what was decided stands, and nothing by halves
                self.became(after)
            return
        finally:
            self.store.left = WITHOUT_END
        assert whole(after)
        self.became(after)

    def held(self, writer):
        return {
            (each.kind, each.name): each.document
            for kind in ("Plan", "ApiProduct")
            for each in self.run(self.writers[writer].list(kind))
        }

    def forget_the_dead(self):
        """A dead writer's claim ends by itself; here at once."""
        self.store._leases.clear()

    @rule(of=st.sampled_from([("Plan", n) for n in PLANS] + [("ApiProduct", n) for n in PRODUCTS]))
    def delete(self, of):
        after = {each: document for each, document in self.model.items() if each != of}
        try:
            self.run(self.writers[0].delete(*of, actor="w"))
        except Absent:
            assert of not in self.model
        except ConfigError:
            assert not whole(after)
        else:
            self.became(after)

    @rule(document=documents, other=documents)
    def race(self, document, other):
        """Two writers at once, each expecting what both have read: of one place one wins."""

        async def both():
            held = [await self.writers[0].get(*id_of(each)) for each in (document, other)]
            expected = [each.revision if each else 0 for each in held]
            return await asyncio.gather(  # noqa: TID251
                self.writers[0].put(document, expect=expected[0], actor="w"),
                self.writers[1].put(other, expect=expected[1], actor="w"),
                return_exceptions=True,
            )

        outcomes = self.run(both())
        for each, outcome in zip((document, other), outcomes, strict=True):
            if isinstance(outcome, Conflict):
                assert id_of(document) == id_of(other)
            elif not isinstance(outcome, ConfigError):
                assert not isinstance(outcome, BaseException), outcome
                self.became({**self.model, id_of(each): each})

    @invariant()
    def everyone_reads_what_was_written(self):
        assert self.held(0) == self.held(1) == self.model
        world = self.run(self.writers[0].world())
        assert {("Plan", name) for name in world.plans} <= set(self.model)

    @rule()
    def every_change_is_noted_once(self):
        self.run(self.writers[0].put(plan("p1", "z"), actor="w"))
        self.became({**self.model, ("Plan", "p1"): plan("p1", "z")})
        events = self.run(self.store.read(audit.LOG))
        assert len([Entry.decode(event.body) for event in events]) == self.noted


TestCatalogue = Catalogue.TestCase
TestCatalogue.settings = settings(stateful_step_count=12, max_examples=20)
