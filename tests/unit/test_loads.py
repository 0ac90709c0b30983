"""What proxies report is shown a line a cluster and locality, with who sends."""

from rich.console import Console

from wherry.cli.loads import NOBODY, view

HERE, THERE = ["local", "", ""], ["far", "z1", ""]


def place(where, issued, **more):
    figures = {"successes": issued, "errors": 0, "in_progress": 0, "rate": 0.0, "error_rate": 0.0}
    return {"place": where, "issued": issued, "metrics": [], **figures, **more}


def cluster(name, *places, dropped=0):
    return {
        "cluster": name,
        "service": "",
        "dropped": dropped,
        "dropped_by": [],
        "places": list(places),
    }


def node(name, *clusters, connected=True):
    return {
        "node": name,
        "node_cluster": "sidecar",
        "connected": connected,
        "age_seconds": 1.0,
        "clusters": list(clusters),
    }


def shown(clusters, nodes, omitted=0):
    console = Console(width=120, no_color=True)
    with console.capture() as captured:
        console.print(view({"clusters": clusters, "nodes": nodes, "omitted": omitted}))
    return [line.split() for line in captured.get().splitlines()]


def test_each_place_of_a_cluster_has_a_line_and_drops_stand_once():
    far = place(THERE, 7, errors=3, rate=1.25, error_rate=0.5)
    web = cluster("web", place(HERE, 90, in_progress=2, rate=9.0), far, dropped=4)
    lines = shown([web], [node("a", web)])
    assert lines[1] == ["web", "local", "90", "0", "2", "4", "9.0", "0.0", "a"]
    assert lines[2] == ["web", "far/z1", "7", "3", "0", "-", "1.2", "0.5", "a"]


def test_the_busiest_sender_is_named_and_the_others_are_counted():
    nodes = [
        node(name, cluster("web", place(HERE, n)))
        for name, n in zip("abcd", (1, 9, 5, 2), strict=True)
    ]
    lines = shown([cluster("web", place(HERE, 17))], nodes)
    assert lines[1][-2:] == ["b", "+3"]


def test_services_come_before_the_clusters_of_the_house_itself():
    clusters = [cluster(name, place(HERE, 1)) for name in ("app/80", "web", "wherry/xds", "zoo")]
    assert [line[0] for line in shown(clusters, [])[1:]] == ["web", "zoo", "app/80", "wherry/xds"]


def test_who_left_and_who_is_not_named_is_said():
    gone = node("a", cluster("web", place(HERE, 1)), connected=False)
    text = "\n".join(" ".join(line) for line in shown(gone["clusters"], [gone], omitted=3))
    assert "1 of these proxies have left" in text
    assert "3 more proxies" in text


def test_what_was_only_dropped_is_shown():
    lines = shown([cluster("web", dropped=5)], [])
    assert lines[1] == ["web", "-", "0", "0", "0", "5", "-", "-", "-"]


def test_nothing_is_said_in_words():
    assert " ".join(shown([], [])[0]) == NOBODY
