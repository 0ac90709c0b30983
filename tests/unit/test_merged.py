"""Several Pilots answer operators as one."""

from dataclasses import asdict

from wherry.sums import Sums
from xds.load.status import ClusterLoad, PlaceLoad
from xds.operators.merged import loads


def cluster(name, issued):
    place = PlaceLoad(("r", "z", ""), issued, issued, 0, 1, 0.5, 0.0)
    return asdict(ClusterLoad(name, "", 1, (("shed", 1),), (place,)))


def answer(node, *clusters):
    return {"clusters": list(clusters), "nodes": [{"node": node}], "omitted": 1}


def test_the_load_of_a_cluster_is_added_up_over_pilots():
    said = loads([answer("b", cluster("web", 3), cluster("db", 1)), answer("a", cluster("web", 4))])
    assert [each["cluster"] for each in said["clusters"]] == ["db", "web"]
    web = said["clusters"][1]
    assert (web["dropped"], web["dropped_by"]) == (2, (("shed", 2),))
    assert (web["places"][0]["issued"], web["places"][0]["in_progress"]) == (7, 2)
    assert [node["node"] for node in said["nodes"]] == ["a", "b"]
    assert said["omitted"] == 2


def counted(sums, *given, **more):
    texts = {n: f"# TYPE a_total counter\na_total {value}\n" for n, value in given}
    (family,) = sums.add(texts, **more)
    return family.samples[0].value


def test_a_pilot_that_does_not_answer_once_is_not_counted_twice_and_one_that_ended_goes_on():
    sums = Sums()
    assert counted(sums, (1, 5.0), (2, 1.0)) == 6.0
    assert counted(sums, (2, 2.0), silent={1}) == 7.0
    assert counted(sums, (1, 6.0), (2, 2.0)) == 8.0
    assert counted(sums, (2, 3.0)) == 9.0
    assert counted(sums, (2, 3.0), (3, 1.0)) == 10.0
