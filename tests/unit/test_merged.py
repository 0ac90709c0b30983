"""Several Pilots answer operators as one."""

from dataclasses import asdict

from xds.load.status import ClusterLoad, PlaceLoad
from xds.merged import loads


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
