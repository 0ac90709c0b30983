"""What is refused names its place and what was expected; nothing is taken by halves."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from wherry.config import assemble, load
from wherry.config.watch import Worlds, watch
from wherry.errors import ConfigError

GOOD = """\
services:
  web: {run: [python, web.py]}
  entries:
    versions:
      v1: {run: [python, entries.py]}
      v2: {run: [python, entries.py]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split}
spec:
  parentRefs: [{group: "", kind: Service, name: entries}]
  rules:
  - backendRefs:
    - {name: entries-v1, weight: 90}
    - {name: entries-v2, weight: 10}
"""


def refused(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        assemble({Path("a.yaml"): text})
    return str(caught.value).splitlines()


def test_the_short_form_stands_for_services_per_version_and_workloads():
    world = assemble({Path("a.yaml"): GOOD})
    assert sorted(world.services) == ["entries", "entries-v1", "entries-v2", "web"]
    assert sorted(world.workloads) == ["entries-v1", "entries-v2", "web"]
    assert world.services["entries-v2"].spec.selector == {"app": "entries", "version": "v2"}


def test_a_yaml_typo_is_named_by_line():
    assert refused("services:\n  web: {run: [a\n  b: c") == [
        "a.yaml:3: no YAML (did not find expected ',' or ']'), expected well-formed YAML"
    ]


def test_an_unknown_field_is_answered_with_the_nearest_known_one():
    assert refused(GOOD.replace("weight: 10", "wieght: 10")) == [
        "a.yaml:16: unknown field 'spec.rules[0].backendRefs[1].wieght', expected 'weight'"
    ]


def test_an_unknown_kind_is_answered_with_the_nearest_known_one():
    assert refused("apiVersion: v1\nkind: HTTPRout\n") == [
        "a.yaml:2: unknown kind 'HTTPRout', expected 'HTTPRoute'"
    ]


def test_a_route_to_a_missing_service_is_refused():
    assert refused(GOOD.replace("name: entries-v2", "name: entries-v3")) == [
        "a.yaml:16: no service 'entries-v3', expected 'entries-v2'"
    ]


def test_a_name_given_twice_is_refused_with_the_first_place():
    [line] = refused(GOOD + "---\n" + GOOD.split("---\n")[1])
    assert line.startswith("a.yaml:20: HTTPRoute 'split' a second time (first at a.yaml:8)")


def test_a_field_given_twice_is_refused():
    assert refused("services:\n  web: {}\n  web: {}\n") == [
        "a.yaml:3: field 'web' a second time, expected each field once"
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("weight: -1", "spec.rules[0].backendRefs[1].weight: -1, expected at least 0"),
        ("weight: ten", "spec.rules[0].backendRefs[1].weight: 'ten', expected a whole number"),
        ("port: 81", "service 'entries-v2' has no port 81, expected 80"),
    ],
)
def test_a_wrong_value_is_shown_with_what_was_expected(wrong, said):
    assert refused(GOOD.replace("weight: 10", wrong)) == [f"a.yaml:16: {said}"]


def test_every_problem_of_every_file_is_listed_at_once():
    with pytest.raises(ConfigError) as caught:
        assemble({Path("a.yaml"): "kind: Nope", Path("b.yaml"): "[]", Path("c.yaml"): GOOD})
    assert [p.file for p in caught.value.problems] == ["a.yaml", "b.yaml"]


def test_an_alias_bomb_is_refused_before_it_grows():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)
    )
    assert "more than 200000 values" in refused(bomb)[0]


CHECKED = """---
apiVersion: wherry.dev/v1
kind: CheckPolicy
metadata: {name: c}
spec: {services: [%s], rules: [{name: r, action: deny, when: {headers: {%s: [x]}}}]}
"""
RULED = """---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p}
spec: {action: DENY, selector: {matchLabels: {%s}}, rules: [{}]}
"""


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (CHECKED % ("entries-v1", "x-a"), "service 'entries-v1', for whose name no program "
         "registers, expected 'entries'"),
        (CHECKED % ("entriez", "x-a"), "no service 'entriez', expected 'entries'"),
        (CHECKED % ("web", "Host"), "spec.rules[0].when: header 'host', expected another one: "
         "hosts are ruled by an AuthorizationPolicy"),
        (RULED % "tier: front", "label 'tier', which no program has, expected 'app' or 'version'"),
        (RULED % "app: entries-v1", "no service 'entries-v1', expected 'entries'"),
    ],
)  # fmt: skip
def test_an_access_rule_that_would_stand_for_nothing_is_refused(policy, said):
    [line] = refused(GOOD + policy)
    assert line.partition(": ")[2] == said


def test_documents_that_stay_are_not_read_again_and_know_their_new_lines():
    first = assemble({Path("a.yaml"): GOOD})
    again = assemble({Path("b.yaml"): "# moved\n---\nservices: {more: {}}\n---\n" + GOOD})
    assert again.http_routes["split"] is first.http_routes["split"]
    assert str(first.origin("HTTPRoute", "split")) == "a.yaml:8"
    assert str(again.origin("HTTPRoute", "split")) == "b.yaml:12"
    assert set(again.services) == {*first.services, "more"}


@pytest.mark.parametrize("first", ["", "---\n", "# a\n--- # b\n", "%YAML 1.1\n---\n", "\ufeff"])
@pytest.mark.parametrize("last", ["", "\n---\n", "\n...\n", "\n---\n---\n# end"])
def test_documents_are_found_however_they_are_marked(first, last):
    text = first + GOOD.replace("- backendRefs", "- name: x\n    backendRefs") + last
    world = assemble({Path("a.yaml"): text})
    lines = text.splitlines()
    origin = world.origin("HTTPRoute", "split")
    assert lines[origin.line - 1].startswith("apiVersion")
    with pytest.raises(ConfigError) as caught:
        assemble({Path("a.yaml"): text.replace("weight: 10", "weight: ten")})
    [problem] = caught.value.problems
    assert "weight: 10" in lines[problem.line - 1]


def test_a_path_that_the_system_refuses_is_said_as_any_other():
    with pytest.raises(ConfigError, match="File name too long, expected a YAML file or a folder"):
        load(Path("a" * 300))


def written(folder: Path, service: str) -> None:
    folder.mkdir()
    (folder / "a.yaml").write_text(f"services: {{{service}: {{}}}}\n")
    os.utime(folder / "a.yaml", ns=(0, 0))


def edited(folder: Path, source: Path, service: str) -> None:
    path = source / "a.yaml"
    path.write_text(f"services: {{{service}: {{}}}}\n")
    os.utime(path, ns=(0, 0))


def swapped(folder: Path, source: Path, service: str) -> None:
    written(folder / service, service)
    (folder / "new").symlink_to(service)
    (folder / "new").replace(folder / "..data")


def recreated(folder: Path, source: Path, service: str) -> None:
    shutil.rmtree(source)
    written(source, service)


@pytest.mark.parametrize("change", [edited, swapped, recreated])
async def test_no_way_to_change_a_file_goes_unseen(tmp_path, change):
    source = tmp_path / "source"
    if change is swapped:  # as Kubernetes mounts a ConfigMap
        source.mkdir()
        written(tmp_path / "one", "one")
        (tmp_path / "..data").symlink_to("one")
        (source / "a.yaml").symlink_to(tmp_path / "..data" / "a.yaml")
    else:
        written(source, "one")
    worlds = Worlds(load(source))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        watching = group.create_task(watch(source, worlds))
        follow = worlds.follow()
        await anext(follow)
        for service in ("two", "six"):
            change(tmp_path, source, service)
            while set(worlds.current.services) != {service}:
                await anext(follow)
        await follow.aclose()
        watching.cancel()


async def test_a_good_edit_replaces_the_world_and_a_bad_one_leaves_it(tmp_path):
    file = tmp_path / "mesh.yaml"
    file.write_text(GOOD)
    worlds = Worlds(load(tmp_path))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(watch(tmp_path, worlds))
        follow = worlds.follow()
        first = await anext(follow)
        while worlds.refused is None:  # the watcher may need a moment before it sees edits
            file.write_text(GOOD.replace("weight: 10", "weight: x"))
            await asyncio.sleep(0.2)
        assert worlds.current is first
        file.write_text(GOOD.replace("weight: 10", "weight: 50"))
        world = await anext(follow)
        assert world.http_routes["split"].spec.rules[0].backend_refs[1].weight == 50
        assert worlds.refused is None
        await follow.aclose()
        task.cancel()
