"""Load reports become totals and rates, and what is remembered stays within its bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.load.report import ClusterReport, Load, Metric, Reporter
from xds.load.rollup import Bounds, Rollup
from xds.load.status import by_cluster

HERE, THERE = ("eu", "a", ""), ("eu", "b", "")


def report(*loads, cluster="web", service="", seconds=10.0, **more):
    return ClusterReport(cluster, service, seconds, loads, **more)


def load(issued=0, place=HERE, **more):
    return Load(place, issued, **more)


def rollup(*nodes, **bounds):
    found = Rollup(Bounds(**bounds))
    for node in nodes or ("n",):
        assert found.joined(Reporter(node, "side"), now=0.0)
    return found


def only(found, now):
    (node,) = found.status(now=now)
    return node


def test_reports_add_up_by_cluster_service_and_place():
    found = rollup()
    found.add("n", [report(load(10, successes=8, errors=2), load(1, THERE))], now=10.0)
    found.add("n", [report(load(5, successes=5, in_progress=3))], now=20.0)
    found.add("n", [report(load(7), service="web.eu")], now=20.0)
    node = only(found, 20.0)
    assert (node.node, node.node_cluster, node.connected, node.age_seconds) == (
        "n", "side", True, 0.0,
    )  # fmt: skip
    plain, named = node.clusters
    assert [(c.cluster, c.service) for c in node.clusters] == [("web", ""), ("web", "web.eu")]
    here, there = plain.places
    assert (here.issued, here.successes, here.errors, here.in_progress) == (15, 13, 2, 3)
    assert (there.place, there.issued) == (THERE, 1)
    assert named.places[0].issued == 7


def test_priorities_of_one_place_are_one_row():
    found = rollup()
    found.add("n", [report(load(1, in_progress=1), load(2, in_progress=1))], now=10.0)
    (place,) = only(found, 10.0).clusters[0].places
    assert (place.issued, place.in_progress) == (3, 2)


def test_what_is_not_in_the_next_report_is_no_longer_in_progress():
    found = rollup()
    found.add("n", [report(load(1, in_progress=1))], now=10.0)
    found.add("n", [report()], now=20.0)
    assert only(found, 20.0).clusters[0].places[0].in_progress == 0


def test_dropped_requests_are_kept_by_category():
    found = rollup()
    dropped = [("lb", 2), ("throttle", 1)]
    found.add("n", [report(dropped=4, dropped_by=tuple(dropped))], now=10.0)
    found.add("n", [report(dropped=1, dropped_by=(("lb", 1),))], now=20.0)
    cluster = only(found, 20.0).clusters[0]
    assert (cluster.dropped, cluster.dropped_by) == (5, (("lb", 3), ("throttle", 1)))


def test_custom_metrics_add_up_by_name():
    found = rollup()
    for value in (0.5, 0.25):
        found.add("n", [report(load(1, metrics=(Metric("cpu", 2, value),)))], now=10.0)
    assert only(found, 10.0).clusters[0].places[0].metrics == (Metric("cpu", 4, 0.75),)


def test_a_rate_is_over_the_time_that_reports_cover():
    found = rollup(rate_seconds=60.0)
    found.add("n", [report(load(100, errors=10))], now=10.0)
    assert only(found, 12.0).clusters[0].places[0].rate == pytest.approx(10.0)
    found.add("n", [report(load(0))], now=20.0)
    place = only(found, 20.0).clusters[0].places[0]
    assert (place.rate, place.error_rate) == (pytest.approx(5.0), pytest.approx(0.5))


def test_a_rate_looks_back_no_further_than_its_window():
    found = rollup(rate_seconds=60.0)
    found.add("n", [report(load(6000))], now=10.0)
    for now in range(20, 130, 10):
        found.add("n", [report(load(60))], now=float(now))
    assert only(found, 120.0).clusters[0].places[0].rate == pytest.approx(6.0)


def test_a_cluster_that_is_left_out_of_reports_comes_to_rest():
    found = rollup(rate_seconds=60.0)
    found.add("n", [report(load(600))], now=60.0)
    found.add("n", [report(load(1), cluster="other")], now=130.0)
    web = next(c for c in only(found, 130.0).clusters if c.cluster == "web")
    assert (web.places[0].rate, web.places[0].issued) == (0.0, 600)


def test_a_node_that_falls_silent_comes_to_rest():
    found = rollup(rate_seconds=60.0)
    found.add("n", [report(load(600))], now=60.0)
    assert only(found, 121.0).clusters[0].places[0].rate == 0.0


def test_without_an_interval_the_time_since_the_last_report_counts():
    found = rollup()
    found.add("n", [report(load(50), seconds=0.0)], now=5.0)
    assert only(found, 5.0).clusters[0].places[0].rate == pytest.approx(10.0)


def test_the_last_totals_of_a_node_stay_for_a_while_and_go_on_when_it_returns():
    found = rollup(keep_seconds=100.0)
    found.add("n", [report(load(5, in_progress=2))], now=10.0)
    found.left("n", now=20.0)
    node = only(found, 110.0)
    assert (node.connected, node.clusters[0].places[0].issued) == (False, 5)
    assert node.clusters[0].places[0].in_progress == 0
    assert found.joined(Reporter("n"), now=115.0)
    found.add("n", [report(load(1))], now=119.0)
    assert only(found, 300.0).clusters[0].places[0].issued == 6
    found.left("n", now=300.0)
    assert found.status(now=400.0) == ()


def test_a_node_with_two_streams_stays_until_both_have_ended():
    found = rollup("n", "n", keep_seconds=10.0)
    found.left("n", now=1.0)
    assert only(found, 100.0).connected
    found.left("n", now=101.0)
    assert found.status(now=111.0) == ()


def test_one_node_too_many_is_refused_until_another_is_forgotten():
    found = rollup("a", "b", nodes=2, keep_seconds=10.0)
    assert not found.joined(Reporter("c"), now=1.0)
    assert found.joined(Reporter("a"), now=1.0)
    found.left("b", now=1.0)
    assert found.joined(Reporter("c"), now=11.0)


@pytest.mark.parametrize(
    ("bounds", "reports"),
    [
        ({"clusters": 1}, [report(load(1)), report(load(1), cluster="zoo")]),
        ({"places": 1}, [report(load(1), load(1, THERE))]),
        ({"rows": 2}, [report(load(1)), report(load(1), cluster="zoo")]),
        ({"names": 1}, [report(load(1), dropped=2, dropped_by=(("a", 1), ("b", 1)))]),
        ({"names": 1}, [report(load(1, metrics=(Metric("a", 1, 1), Metric("b", 1, 1))))]),
    ],
    ids=["clusters", "places", "rows", "categories", "metrics"],
)
def test_what_does_not_fit_is_counted_as_overflow_and_the_rest_as_usual(bounds, reports):
    found = rollup(**bounds)
    found.add("n", reports, now=10.0)
    found.add("n", reports, now=20.0)
    assert found.overflow == 2
    assert only(found, 20.0).clusters[0].places[0].issued == 2


def test_clusters_and_places_that_are_no_longer_reported_make_room():
    found = rollup(clusters=1, rows=2, keep_seconds=10.0)
    found.add("n", [report(load(1))], now=0.0)
    found.add("n", [], now=10.0)
    found.add("n", [report(load(1, THERE), cluster="next")], now=11.0)
    (cluster,) = only(found, 11.0).clusters
    assert (cluster.cluster, found.overflow) == ("next", 0)


def test_nodes_are_sorted_and_fold_into_one_view():
    found = rollup("b", "a")
    for node in ("a", "b"):
        metrics = (Metric("cpu", 1, 0.5),)
        found.add(
            node,
            [report(load(10, metrics=metrics), load(1, (node, "", "")), dropped=1,
                    dropped_by=(("lb", 1),))],
            now=10.0,
        )  # fmt: skip
    nodes = found.status(now=10.0)
    assert [node.node for node in nodes] == ["a", "b"]
    (web,) = by_cluster(nodes)
    assert (web.dropped, web.dropped_by) == (2, (("lb", 2),))
    assert [p.place for p in web.places] == [("a", "", ""), ("b", "", ""), HERE]
    here = web.places[2]
    assert (here.issued, here.rate) == (20, pytest.approx(2.0))
    assert here.metrics == (Metric("cpu", 2, 1.0),)


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["join", "leave", "report"]),
        st.sampled_from(["web", "api", "db"]),
        st.sampled_from([HERE, THERE]),
        st.integers(0, 5),
        st.floats(0.1, 40.0),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_comes_totals_never_exceed_what_was_sent_and_bounds_hold(steps):
    found = Rollup(Bounds(nodes=2, clusters=2, places=2, rows=5, keep_seconds=50.0))
    now, open_streams, sent = 0.0, [], 0
    for node, move, cluster, place, count, wait in steps:
        now += wait
        if move == "join" and found.joined(Reporter(node), now=now):
            open_streams.append(node)
        elif move == "leave" and node in open_streams:
            open_streams.remove(node)
            found.left(node, now=now)
        elif move == "report" and node in open_streams:
            found.add(node, [report(load(count, place), cluster=cluster, seconds=wait)], now=now)
            sent += count
        nodes = found.status(now=now)
        assert len(nodes) <= 2
        assert {n.node for n in nodes if n.connected} == set(open_streams)
        rows = [p for n in nodes for c in n.clusters for p in c.places]
        assert len(rows) <= 5
        assert all(len(n.clusters) <= 2 for n in nodes)
        assert sum(p.issued for p in rows) <= sent
        assert all(p.rate >= 0 for p in rows)


def test_clusters_without_places_are_bounded_for_all_nodes_together_and_make_room_when_forgotten():
    found = rollup("a", "b", rows=4, keep_seconds=10.0)
    for node in ("a", "b"):
        found.add(node, [report(cluster=f"c{n}", dropped=1) for n in range(3)], now=1.0)
    assert [len(node.clusters) for node in found.status(now=1.0)] == [3, 1]
    assert found.overflow == 2
    found.add("a", [], now=20.0)
    found.add("b", [report(load(1), cluster="new")], now=20.0)
    assert [len(node.clusters) for node in found.status(now=20.0)] == [0, 1]
    assert found.overflow == 2
