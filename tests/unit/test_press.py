"""Responses are bytes made once: they parse to what they say, and streams share them."""

from datetime import timedelta

import pytest
from envoy_data_plane.envoy.service.discovery.v3 import (
    DeltaDiscoveryResponse,
    DiscoveryResponse,
)
from envoy_data_plane.envoy.service.discovery.v3 import Resource as Wrapped

from xds.delta import DeltaRequest, DeltaStream
from xds.press import MOST_KEPT, MOST_LEAF, Form, Press
from xds.resource import CLUSTER, ENDPOINT, ROUTE, VIRTUAL_HOST, Resource
from xds.snapshot import Snapshot
from xds.sotw import Request, SotwStream

ENVELOPE = "type.googleapis.com/envoy.service.discovery.v3.Resource"
LARGE = b"x" * (MOST_LEAF + 1)


def resources(type_url):
    return [
        Resource(type_url, "a", b"\x0a\x01a"),
        Resource(type_url, "ä" * 100, LARGE, ttl=1.5),
        Resource(type_url, "c", b"\x0a\x01c", ttl=60.0, aliases=("d", "e")),
    ]


def answer(form, type_url, press=None):
    snapshot = Snapshot.of(resources(type_url))
    if form is Form.DELTA:
        stream, request = DeltaStream(press), DeltaRequest(type_url, frozenset({"*", "ghost"}))
    else:
        stream = SotwStream(press, ttl=form is Form.SOTW_TTL)
        request = Request(type_url)
    stream.publish(snapshot)
    (response,) = stream.receive(request)
    assert response.version == snapshot.version(type_url)
    return response


@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT])
@pytest.mark.parametrize("form", [Form.SOTW, Form.SOTW_TTL])
def test_the_state_of_the_world_parses_to_what_it_says(form, type_url):
    response = answer(form, type_url)
    parsed = DiscoveryResponse.FromString(response.raw)
    assert (parsed.version_info, parsed.nonce) == (response.version, response.nonce)
    assert parsed.type_url == type_url
    assert bytes(parsed) == response.raw
    for resource, any_ in zip(resources(type_url), parsed.resources, strict=True):
        found = any_
        if form is Form.SOTW_TTL and resource.ttl is not None:
            assert any_.type_url == ENVELOPE
            wrapped = Wrapped.FromString(any_.value)
            assert (wrapped.name, wrapped.version) == (resource.name, resource.version)
            assert wrapped.ttl == timedelta(seconds=resource.ttl)
            found = wrapped.resource
        assert (found.type_url, found.value) == (type_url, resource.body)


@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT])
def test_an_increment_parses_to_what_it_says(type_url):
    response = answer(Form.DELTA, type_url)
    parsed = DeltaDiscoveryResponse.FromString(response.raw)
    assert (parsed.system_version_info, parsed.nonce) == (response.version, response.nonce)
    assert (parsed.type_url, parsed.removed_resources) == (type_url, ["ghost"])
    for resource, found in zip(resources(type_url), parsed.resources, strict=True):
        assert (found.name, found.version) == (resource.name, resource.version)
        assert tuple(found.aliases) == resource.aliases
        assert (found.resource.type_url, found.resource.value) == (type_url, resource.body)
        assert found.ttl == (resource.ttl and timedelta(seconds=resource.ttl))


def test_a_heartbeat_in_an_increment_names_a_resource_and_its_life_and_nothing_else():
    stream = DeltaStream()
    stream.publish(Snapshot.of([Resource(ENDPOINT, "a", b"1", ttl=9.0)]), 0.0)
    (first,) = stream.receive(DeltaRequest(ENDPOINT, frozenset({"a"})), 0.0)
    stream.receive(DeltaRequest(ENDPOINT, nonce=first.nonce), 0.0)
    (beat,) = stream.tick(stream.wake_at)
    (parsed,) = DeltaDiscoveryResponse.FromString(beat.raw).resources
    assert (parsed.name, parsed.resource, parsed.ttl) == ("a", None, timedelta(seconds=9))


def test_a_heartbeat_in_the_state_of_the_world_repeats_the_resource_in_its_envelope():
    stream, names = SotwStream(ttl=True), frozenset({"a"})
    stream.publish(Snapshot.of([Resource(ENDPOINT, "a", b"1", ttl=9.0)]), 0.0)
    (first,) = stream.receive(Request(ENDPOINT, names), 0.0)
    stream.receive(Request(ENDPOINT, names, first.nonce), 0.0)
    (beat,) = stream.tick(stream.wake_at)
    (any_,) = DiscoveryResponse.FromString(beat.raw).resources
    parsed = Wrapped.FromString(any_.value)
    assert (any_.type_url, parsed.name, parsed.resource.value) == (ENVELOPE, "a", b"1")
    assert parsed.ttl == timedelta(seconds=9)


@pytest.mark.parametrize("form", list(Form))
def test_streams_that_are_owed_the_same_get_the_same_object(form):
    press = Press()
    one, other = answer(form, CLUSTER, press), answer(form, CLUSTER, press)
    assert one.raw is other.raw
    assert answer(form, CLUSTER).raw is not one.raw


def test_different_forms_types_and_changes_share_nothing():
    press = Press()
    raws = [answer(form, t, press).raw for form in Form for t in (CLUSTER, ENDPOINT)]
    assert len({id(raw) for raw in raws}) == len(set(raws)) == len(raws)


def delta_pair(press):
    streams = [DeltaStream(press), DeltaStream(press)]
    for stream in streams:
        stream.publish(Snapshot.of([]))
        (first,) = stream.receive(DeltaRequest(CLUSTER))
        stream.receive(DeltaRequest(CLUSTER, nonce=first.nonce))
    return streams


def test_a_shared_response_never_takes_a_stream_back_to_an_older_nonce():
    press = Press()
    ahead, behind = delta_pair(press)
    back = Snapshot.of([Resource(CLUSTER, "a", b"1")])
    forth = Snapshot.of([Resource(CLUSTER, "a", b"2")])
    serials = []
    for snapshot in (back, forth, back, forth):
        (response,) = ahead.publish(snapshot)
        serials.append(response.serial)
        assert ahead.receive(DeltaRequest(CLUSTER, nonce=response.nonce)) == []
    assert serials == sorted(set(serials))
    (late,) = behind.publish(forth)
    assert late.serial > int(behind.subscriptions[CLUSTER].serial) - 1
    assert [r.body for r in late.resources] == [b"2"]


def test_the_press_keeps_a_bounded_number_of_responses():
    press = Press()
    (stream, _) = delta_pair(press)
    snapshots = [Snapshot.of([Resource(CLUSTER, "a", b"%d" % n)]) for n in range(2 * MOST_KEPT)]
    for snapshot in snapshots:
        (response,) = stream.publish(snapshot)
        stream.receive(DeltaRequest(CLUSTER, nonce=response.nonce))
    assert len(press._kept) <= MOST_KEPT


def test_a_host_that_goes_and_one_that_never_was_are_told_apart_by_each_of_two_streams():
    press, name = Press(), frozenset({"r/x"})
    route = Resource(ROUTE, "r", b"")
    after = Snapshot.of([route])
    seeker, keeper = DeltaStream(press), DeltaStream(press)
    keeper.publish(Snapshot.of([route, Resource(VIRTUAL_HOST, "r/x", b"x")]))
    (first,) = keeper.receive(DeltaRequest(VIRTUAL_HOST, name))
    keeper.receive(DeltaRequest(VIRTUAL_HOST, nonce=first.nonce))
    seeker.publish(after)
    (vain,) = seeker.receive(DeltaRequest(VIRTUAL_HOST, name))
    (gone,) = keeper.publish(after)
    vain, gone = (DeltaDiscoveryResponse.FromString(each.raw) for each in (vain, gone))
    assert [each.aliases for each in vain.resources] == [["r/x"]]
    assert (vain.removed_resources, gone.removed_resources) == ([], ["r/x"])
    assert gone.resources == []
