"""Any order of creates, updates, publishes, aliases and deletions: versions stay what they were."""

import asyncio
import itertools
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from faas.functions.registry import Registry
from faas.lambda_errors import LambdaError, ResourceConflict, ResourceNotFound
from faas.model.function import LATEST, Reference
from faas.place import Place
from wherry.clock import SystemClock
from wherry.store.memory import MemoryStore

NAMES = st.sampled_from(["a", "ab", "a-b"])
ALIASES = st.sampled_from(["live", "next"])
CODE = {"runtime": "python3.11", "handler": "app.handler", "digest": "00" * 32, "code_size": 1}


class Model:
    """What one function should be.

    Attributes:
        timeout: Of ``$LATEST``; no two states have the same.
        versions: The timeout of each version that is there.
        highest: The last number that was given.
        aliases: Versions by alias: the main one, and the other with its weight.
    """

    def __init__(self, timeout):
        self.timeout = timeout
        self.versions = {}
        self.highest = 0
        self.changed = True
        self.aliases = {}


class Machine(RuleBasedStateMachine):
    """The registry against a model of it."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.registry = Registry(
            MemoryStore(), Path(self.folder.name) / "code", Place(), SystemClock()
        )
        self.models = {}
        self.numbers = itertools.count(1)

    def teardown(self):
        self.runner.close()
        self.folder.cleanup()

    def do(self, awaitable):
        return self.runner.run(awaitable)

    def refused(self, awaitable, error):
        try:
            self.do(awaitable)
        except error:
            return
        raise AssertionError(f"expected {error.__name__}")

    @rule(name=NAMES)
    def create(self, name):
        timeout = next(self.numbers)
        creating = self.registry.create(name, CODE | {"timeout": timeout}, pending=False)
        if name in self.models:
            self.refused(creating, ResourceConflict)
            return
        self.do(creating)
        self.models[name] = Model(timeout)

    @rule(name=NAMES)
    def update(self, name):
        timeout = next(self.numbers)
        updating = self.registry.update(Reference(name), {"timeout": timeout}, pending=False)
        if name not in self.models:
            self.refused(updating, ResourceNotFound)
            return
        self.do(updating)
        self.models[name].timeout = timeout
        self.models[name].changed = True

    @rule(name=NAMES)
    def publish(self, name):
        model = self.models.get(name)
        if model is None:
            self.refused(self.registry.publish(name), ResourceNotFound)
            return
        version, new = self.do(self.registry.publish(name, pending=False))
        assert new == (model.changed or model.highest not in model.versions)
        if new:
            model.highest += 1
            model.versions[model.highest] = model.timeout
            model.changed = False
        assert version.version == str(model.highest)

    @precondition(lambda self: any(model.versions for model in self.models.values()))
    @rule(data=st.data(), alias=ALIASES, divided=st.booleans())
    def point(self, data, alias, divided):
        published = sorted(name for name, model in self.models.items() if model.versions)
        name = data.draw(st.sampled_from(published))
        model = self.models[name]
        numbers = sorted(model.versions)
        main = data.draw(st.sampled_from(numbers))
        others = [number for number in numbers if number != main]
        weights = {str(data.draw(st.sampled_from(others))): 0.5} if divided and others else {}
        if alias in model.aliases:
            self.do(self.registry.realias(name, alias, version=str(main), weights=weights))
        else:
            self.do(self.registry.alias(name, alias, str(main), description="", weights=weights))
        model.aliases[alias] = {main, *map(int, weights)}

    @rule(name=NAMES, alias=ALIASES)
    def unpoint(self, name, alias):
        if name in self.models:
            self.do(self.registry.unalias(name, alias))
            self.models[name].aliases.pop(alias, None)

    @precondition(lambda self: any(model.highest for model in self.models.values()))
    @rule(data=st.data())
    def delete_version(self, data):
        name = data.draw(st.sampled_from(sorted(n for n, m in self.models.items() if m.highest)))
        model = self.models[name]
        number = data.draw(st.integers(1, model.highest))
        deleting = self.registry.delete(Reference(name, str(number), qualified=True))
        if any(number in pointed for pointed in model.aliases.values()):
            self.refused(deleting, ResourceConflict)
            return
        self.do(deleting)
        model.versions.pop(number, None)

    @rule(name=NAMES)
    def delete(self, name):
        if self.models.pop(name, None) is None:
            self.refused(self.registry.delete(Reference(name)), ResourceNotFound)
        else:
            self.do(self.registry.delete(Reference(name)))

    @invariant()
    def everything_is_as_it_should_be(self):
        found = {each.name: each for each in self.do(self.registry.list())}
        assert list(found) == sorted(self.models)
        for name, model in self.models.items():
            assert found[name].timeout == model.timeout
            versions = self.do(self.registry.versions(name))
            assert [each.version for each in versions] == [
                LATEST,
                *(str(number) for number in sorted(model.versions)),
            ]
            for each in versions[1:]:
                assert each.timeout == model.versions[int(each.version)]
            for alias, pointed in model.aliases.items():
                for draw in (0.0, 0.99):
                    resolved = self.do(self.registry.resolve(Reference(name, alias), draw=draw))
                    assert int(resolved.function.version) in pointed

    @rule(name=NAMES, qualifier=st.sampled_from(["9999", "nobody"]))
    def ask_for_nothing(self, name, qualifier):
        self.refused(self.registry.resolve(Reference(name, qualifier)), LambdaError)


TestRegistry = Machine.TestCase
TestRegistry.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
