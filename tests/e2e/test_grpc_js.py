"""`@grpc/grpc-js-xds` as a client: another implementation of xDS than the one of `grpcio`."""

import pytest
from support.grpc_js import installed
from support.members import mesh, until
from support.proxyless import Client, backends, client, split

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TEXT = "services: {web: {}, old: {}, new: {}}\n"


@pytest.fixture(scope="module")
def node():
    return installed()


@pytest.fixture
async def made(tmp_path):
    async with mesh(tmp_path, TEXT + split("old", 1, "new", 0, "web")) as running:
        yield running


@pytest.fixture
async def programs(made):
    async with backends(made.pilot.address) as running:
        yield running


@pytest.fixture
async def caller(made, node):
    program, folder = node
    async with client(made.pilot.address, "grpc~node", program=program, cwd=folder) as running:
        yield running


async def test_a_name_reaches_every_program_of_the_service(made, programs, caller: Client):
    await programs.add("a", "old")
    await programs.add("b", "old")
    await made.joined(2)

    async def by_turns() -> bool:
        return await caller.calls("old", 10) == {"a": 5, "b": 5}

    await until(by_turns)
    assert (await caller.calls("old:80", 2)).total() == 2
    (agent,) = {stream.node.user_agent_name for stream in made.pilot.streams()}
    assert "node" in agent.lower()


async def test_weights_move_calls_and_no_call_fails_meanwhile(made, programs, caller: Client):
    await programs.add("old", "old")
    await programs.add("new", "new")
    await made.joined(2)
    async with caller.flow("web") as flow:
        assert flow.ended.keys() == {"old"}
        await made.become(TEXT + split("old", 1, "new", 1, "web"))
        await flow.more(20, "new")
        before = await flow.seen()
        await flow.more(400)
        moved = await flow.seen() - before
        assert 0.3 < moved["new"] / moved.total() < 0.7
        await made.become(TEXT + split("old", 0, "new", 1, "web"))
        await flow.more(20, "new")
        before = await flow.seen()
        await flow.more(50)
        assert (await flow.seen() - before).keys() == {"new"}
    assert flow.ended.keys() == {"old", "new"}


async def test_no_call_fails_while_programs_come_and_go(made, programs, caller: Client):
    now = await programs.add("0", "new")
    await made.joined(1)
    async with caller.flow("new") as flow:
        for number in range(1, 6):
            coming = await programs.add(str(number), "new")
            await flow.more(5, str(number))
            await now.leave()
            await made.joined(1)
            await flow.more(20)
            await now.stop()
            now = coming
    assert flow.ended.keys() == set("012345")


async def test_a_table_of_calls_meets_what_the_routes_say(made, programs, caller: Client):
    text = TEXT + split("old", 1, "new", 0, "web").replace(
        "rules: [",
        "rules: [{matches: [{path: {value: /a.A/Deep}}], backendRefs: [{name: new}]}, "
        "{matches: [{headers: [{name: X-Beta, value: 'yes'}]}], backendRefs: [{name: new}]}, "
        "{matches: [{path: {value: /none.None}}]}, ",
    )
    await programs.add("old", "old")
    await programs.add("new", "new")
    await made.joined(2)
    await made.become(text)
    assert await caller.calls("web", method="/a.A/Deep") == {"new": 1}
    assert await caller.calls("web", method="/a.A/Deeper") == {"old": 1}
    assert await caller.calls("web", metadata={"x-beta": "yes"}) == {"new": 1}
    (refused,) = await caller.calls("web", method="/none.None/It")
    assert refused.startswith("UNAVAILABLE")
    await made.settled()


async def test_a_name_that_the_mesh_does_not_know_is_refused_until_it_does(
    made, programs, caller: Client
):
    await programs.add("a", "late")
    met, seconds = await caller.timed("late", seconds=14)
    assert met.startswith("UNAVAILABLE")
    assert seconds < 10
    await made.become(TEXT.replace("new: {}", "new: {}, late: {}"))

    async def reached() -> bool:
        return await caller.calls("late", seconds=1) == {"a": 1}

    await until(reached)
