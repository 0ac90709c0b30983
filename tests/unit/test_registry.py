"""The registry: versions that never change, aliases, revisions, and what deletion takes along."""

import asyncio
from contextlib import suppress

import pytest

from faas.functions.registry import Registry
from faas.lambda_errors import (
    InvalidParameter,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
)
from faas.model.concurrency import PROVISIONED, RESERVED, Provisioned, Reserved
from faas.model.delivery import PREFIX as DELIVERY
from faas.model.delivery import Delivery
from faas.model.function import LATEST, LayerUse, Reference, State, Update
from faas.model.layer import PREFIX as LAYER
from faas.model.layer import LayerVersion
from faas.place import Place
from faas.records import Records
from wherry.clock import SystemClock
from wherry.store.memory import MemoryStore

CODE = {"runtime": "python3.11", "handler": "app.handler", "digest": "00" * 32, "code_size": 1}
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def registry(tmp_path, store):
    return Registry(store, tmp_path / "code", Place(), SystemClock())


@pytest.fixture
async def function(registry):
    return await registry.create("f", CODE, pending=False)


async def numbers(registry, name="f"):
    return [each.version for each in await registry.versions(name)]


async def test_a_new_function_is_pending_until_it_is_settled(registry):
    created = await registry.create("f", CODE)
    assert created.state is State.PENDING
    await registry.settle(created)
    found = await registry.get(Reference("f"))
    assert (found.state, found.revision) == (State.ACTIVE, created.revision)


async def test_a_function_that_failed_in_creation_says_why(registry):
    await registry.settle(await registry.create("f", CODE), failure="no room", code="InternalError")
    found = await registry.get(Reference("f"))
    assert (found.state, found.reason) == (State.FAILED, "no room")


async def test_one_name_is_one_function(registry, function):
    with pytest.raises(ResourceConflict, match="Function already exist: f"):
        await registry.create("f", CODE)


async def test_while_an_update_is_in_progress_another_is_refused(registry, function):
    first = await registry.update(Reference("f"), {"timeout": 5})
    with pytest.raises(ResourceConflict, match="An update is in progress for resource: " + ARN):
        await registry.update(Reference("f"), {"timeout": 6})
    with pytest.raises(ResourceConflict):
        await registry.publish("f")
    await registry.settle(first)
    assert (await registry.update(Reference("f"), {"timeout": 6})).timeout == 6


async def test_while_a_function_is_created_no_update_is_taken(registry):
    await registry.create("f", CODE)
    with pytest.raises(ResourceConflict, match="in the following state: Pending"):
        await registry.update(Reference("f"), {"timeout": 5})


async def test_of_two_updates_at_once_one_is_made(registry, function):
    made = []

    async def update(seconds):
        with suppress(ResourceConflict):
            made.append(await registry.update(Reference("f"), {"timeout": seconds}))

    async with asyncio.TaskGroup() as tasks:
        for seconds in range(1, 6):
            tasks.create_task(update(seconds))
    assert len(made) == 1


async def test_an_update_for_another_revision_is_refused(registry, function):
    changed = await registry.update(
        Reference("f"), {"timeout": 5}, revision=function.revision, pending=False
    )
    assert changed.revision != function.revision
    with pytest.raises(PreconditionFailed):
        await registry.update(Reference("f"), {"timeout": 6}, revision=function.revision)
    assert (await registry.get(Reference("f"))).timeout == 5


async def test_a_failed_update_leaves_the_function_active(registry, function):
    await registry.settle(await registry.update(Reference("f"), {"timeout": 5}), failure="no")
    found = await registry.get(Reference("f"))
    assert (found.state, found.update, found.reason) == (State.ACTIVE, Update.FAILED, "no")


async def test_a_late_settlement_of_an_older_state_changes_nothing(registry, function):
    await registry.update(Reference("f"), {"timeout": 5}, pending=False)
    await registry.settle(function, failure="late")
    assert (await registry.get(Reference("f"))).reason == ""


async def test_a_version_is_a_copy_that_later_updates_leave_alone(registry, function):
    version, new = await registry.publish("f", description="first", pending=False)
    assert new
    assert (version.version, version.description, version.qualified_arn) == (
        "1",
        "first",
        ARN + ":1",
    )
    await registry.update(Reference("f"), {"timeout": 9}, pending=False)
    assert (await registry.get(Reference("f", "1"))).timeout == 3
    assert (await registry.get(Reference("f"))).timeout == 9


async def test_what_did_not_change_keeps_its_version(registry, function):
    first, _ = await registry.publish("f")
    assert await registry.publish("f", description="other") == (first, False)
    await registry.update(Reference("f"), {}, pending=False)
    assert (await registry.publish("f"))[0].version == "2"
    assert await numbers(registry) == [LATEST, "1", "2"]


async def test_a_version_number_is_never_given_twice(registry, function):
    await registry.publish("f")
    await registry.delete(Reference("f", "1", qualified=True))
    assert (await registry.publish("f"))[0].version == "2"


async def test_versions_published_at_once_are_one(registry, function):
    async with asyncio.TaskGroup() as tasks:
        publishing = [tasks.create_task(registry.publish("f")) for _ in range(5)]
    results = [task.result() for task in publishing]
    assert {version.version for version, _ in results} == {"1"}
    assert sum(new for _, new in results) == 1


async def test_versions_are_listed_by_number_not_by_text(registry, function):
    for _ in range(11):
        await registry.update(Reference("f"), {}, pending=False)
        await registry.publish("f")
    assert await numbers(registry) == [LATEST, *map(str, range(1, 12))]


async def test_publishing_checks_code_and_revision(registry, function):
    with pytest.raises(InvalidParameter, match="is different from current CodeSHA256"):
        await registry.publish("f", code_sha256="other")
    with pytest.raises(PreconditionFailed):
        await registry.publish("f", revision="other")
    version, _ = await registry.publish(
        "f", code_sha256=function.code_sha256, revision=function.revision
    )
    assert version.version == "1"


async def test_an_alias_leads_to_its_version(registry, function):
    await registry.publish("f")
    await registry.alias("f", "live", "1", description="", weights={})
    found = await registry.resolve(Reference("f", "live"))
    assert (found.function.version, found.alias.name) == ("1", "live")


async def test_weights_send_their_share_to_the_other_version(registry, function):
    await registry.publish("f")
    await registry.update(Reference("f"), {}, pending=False)
    await registry.publish("f")
    await registry.alias("f", "live", "1", description="", weights={"2": 0.25})
    draws = dict.fromkeys((0.0, 0.24, 0.25, 0.99), "")
    for draw in draws:
        found = await registry.resolve(Reference("f", "live"), draw=draw)
        draws[draw] = found.function.version
    assert draws == {0.0: "2", 0.24: "2", 0.25: "1", 0.99: "1"}
    served = [(await registry.resolve(Reference("f", "live"))).function.version for _ in range(200)]
    assert {"1", "2"} == set(served)


@pytest.mark.parametrize(
    ("version", "weights", "said"),
    [
        ("1", {"1": 0.5}, "already included in routing configuration"),
        ("1", {"2": 0.5, "3": 0.1}, "cannot be greater than 1"),
        ("1", {"2": 1.5}, "less than or equal to 1.0"),
        ("1", {"7": 0.5}, f"Function not found: {ARN}:7"),
        (LATEST, {"1": 0.5}, "not supported for an alias pointing to more than 1 version"),
        ("7", {}, f"Function not found: {ARN}:7"),
    ],
)
async def test_an_alias_that_leads_nowhere_is_refused(registry, function, version, weights, said):
    await registry.publish("f")
    await registry.update(Reference("f"), {}, pending=False)
    await registry.publish("f")
    with pytest.raises((InvalidParameter, ResourceNotFound)) as refused:
        await registry.alias("f", "live", version, description="", weights=weights)
    assert said in str(refused.value)
    assert await registry.aliases.list("f") == []


async def test_an_alias_changes_only_at_its_revision(registry, function):
    await registry.publish("f")
    alias = await registry.alias("f", "live", LATEST, description="x", weights={})
    moved = await registry.realias("f", "live", version="1", revision=alias.revision)
    assert (moved.version, moved.description) == ("1", "x")
    with pytest.raises(PreconditionFailed):
        await registry.realias("f", "live", version=LATEST, revision=alias.revision)


async def test_a_version_that_an_alias_points_at_stays(registry, function):
    await registry.publish("f")
    await registry.update(Reference("f"), {}, pending=False)
    await registry.publish("f")
    await registry.alias("f", "live", "1", description="", weights={"2": 0.5})
    for number in ("1", "2"):
        with pytest.raises(ResourceConflict, match=r"aliases reference it: \[live\]"):
            await registry.delete(Reference("f", number, qualified=True))
    await registry.unalias("f", "live")
    await registry.delete(Reference("f", "1", qualified=True))
    assert await numbers(registry) == [LATEST, "2"]


async def test_only_numbered_versions_can_be_deleted_alone(registry, function):
    await registry.alias("f", "live", LATEST, description="", weights={})
    for qualifier in (LATEST, "live"):
        with pytest.raises(InvalidParameter):
            await registry.delete(Reference("f", qualifier, qualified=True))


async def test_a_function_goes_with_all_that_belongs_to_it(registry, function, store):
    await registry.publish("f")
    await registry.alias("f", "live", "1", description="", weights={})
    await Records(store, RESERVED, Reserved).put("f", Reserved("f", 3))
    provisioned = Provisioned("f", "live", 1, "")
    await Records(store, PROVISIONED, Provisioned).put("f/live", provisioned)
    await Records(store, DELIVERY, Delivery).put(f"f/{LATEST}", Delivery("f", LATEST, 0.0))
    await registry.create("ff", CODE, pending=False)
    await registry.publish("ff")
    await registry.delete(Reference("f"))
    assert {key for key in await store.list("") if "/f/" in key or key.endswith("/f")} == set()
    assert await numbers(registry, "ff") == [LATEST, "1"]
    with pytest.raises(ResourceNotFound, match=f"Function not found: {ARN}$"):
        await registry.get(Reference("f"))


async def test_a_deleted_functions_successor_begins_anew(registry, function):
    await registry.publish("f")
    await registry.delete(Reference("f"))
    await registry.create("f", CODE, pending=False)
    assert await numbers(registry) == [LATEST]
    assert (await registry.publish("f"))[0].version == "1"


@pytest.mark.parametrize("qualifier", ["1", "live"])
async def test_what_is_not_there_is_named_in_full(registry, function, qualifier):
    with pytest.raises(ResourceNotFound, match=f"Function not found: {ARN}:{qualifier}"):
        await registry.resolve(Reference("f", qualifier))


async def test_a_sweep_keeps_every_package_that_something_names(registry, store):
    digests = {name: f"{number:02x}" * 32 for number, name in enumerate("abcdefg")}
    for digest in digests.values():
        (registry.code_dir / digest / "root").mkdir(parents=True)
    use = LayerUse("arn:1", digests["b"], 1)
    given = {**CODE, "digest": digests["a"], "layers": (use,)}
    await registry.create("f", given, pending=False)
    await registry.publish("f")
    await registry.update(Reference("f"), {"digest": digests["c"], "layers": ()}, pending=False)
    layer = LayerVersion("l", "arn:l", 1, digests["d"], 1, "")
    await Records(store, LAYER, LayerVersion).put("l/0000000001", layer)
    await registry.sweep()
    left = {path.name for path in registry.code_dir.iterdir()}
    assert left == {digests[name] for name in "abcd"}


@pytest.mark.parametrize(
    "text",
    ["f", "f:1", "000000000000:function:f", ARN, ARN + ":1", ARN + ":$LATEST"],
)
def test_a_function_is_found_by_name_partial_arn_and_arn(text):
    assert Place().reference(text).name == "f"


def test_an_arn_of_elsewhere_is_refused():
    with pytest.raises(ResourceNotFound, match="not reachable in this region"):
        Place().reference(ARN.replace("us-east-1", "eu-west-1"))
    with pytest.raises(InvalidParameter, match="derived qualifier"):
        Place().reference("f:1", "2")
