"""CORS, addresses, fixed answers, splits and meters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.traffic.addresses import Guard, Networks, client
from gateway.traffic.cors import Sharing
from gateway.traffic.fixed import Ready
from gateway.traffic.meters import MOST, Meters
from gateway.traffic.split import Split, copied
from gateway.traffic.wrong import WrongPolicy
from wherry.model.product import Weighted
from wherry.model.traffic import Addresses, Cors, Fixed, Metered

SHOP = Cors(origins=["https://shop.example", "https://*.shop.example:8443"], headers=["X-Key"])


def test_a_listed_origin_may_read_answers_and_every_answer_varies_by_origin():
    sharing = Sharing.of(SHOP)
    assert sharing.fields("https://shop.example") == {
        "Access-Control-Allow-Origin": "https://shop.example",
        "Vary": "Origin",
    }
    assert sharing.fields("https://other.example") == {"Vary": "Origin"}
    assert sharing.fields(None) == {"Vary": "Origin"}


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        ("https://a.shop.example:8443", True),
        ("https://a.b.shop.example:8443", True),
        ("https://a.shop.example", False),
        ("http://a.shop.example:8443", False),
        ("https://.shop.example:8443", False),
        ("https://evilshop.example:8443", False),
        ("https://evil.test/.shop.example:8443", False),
        ("https://evil.test:1@a.shop.example:8443", False),
        ("null", False),
        ("", False),
    ],
)
def test_names_below_a_domain_are_whole_host_names(origin: str, *, admitted: bool):
    assert Sharing.of(SHOP).admits(origin) is admitted


def test_a_preflight_is_agreed_to_only_for_listed_methods_and_headers():
    sharing = Sharing.of(SHOP)
    agreed = sharing.preflight("https://shop.example", "POST", "x-key, Content-Type")
    assert agreed is not None
    assert agreed["Access-Control-Allow-Methods"] == "GET, HEAD, POST"
    assert agreed["Access-Control-Max-Age"] == "600"
    assert agreed["Access-Control-Allow-Headers"] == "X-Key"
    assert agreed["Vary"].startswith("Origin, ")
    assert sharing.preflight("https://shop.example", "DELETE") is None
    assert sharing.preflight("https://shop.example", "GET", "x-other") is None
    assert sharing.preflight("https://evil.example", "GET") is None


def test_everyone_gets_a_star_and_no_vary():
    sharing = Sharing.of(Cors(origins=["*"], expose=["X-Total"]))
    assert sharing.fields("https://a.example") == {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Expose-Headers": "X-Total",
    }


def test_an_origin_with_a_path_is_refused():
    with pytest.raises(WrongPolicy, match="/b"):
        Sharing.of(Cors(origins=["https://a.example/b"]))


def test_deny_beats_allow_and_both_know_ipv4_in_ipv6():
    guard = Guard.of(Addresses(allow=["10.0.0.0/8", "2001:db8::/32"], deny=["10.1.0.0/16"]))
    admitted = ("10.2.3.4", "::ffff:10.2.3.4", "2001:db8::1")
    refused = ("10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "2001:db9::1", "", "somewhere")
    assert all(map(guard.admits, admitted))
    assert not any(map(guard.admits, refused))
    assert Guard.of(Addresses(deny=["192.0.2.1"])).admits("192.0.2.2")
    assert Guard.of(Addresses(allow=["0.0.0.0/0"])).admits("192.0.2.2")


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.0/33", "1.2.3", "::1/129", "::zz"])
def test_a_network_that_is_none_is_refused(network: str):
    with pytest.raises(WrongPolicy):
        Networks.of([network])


PROXIES = Networks.of(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("peer", "lines", "expected"),
    [
        ("192.0.2.9", ["198.51.100.1"], "192.0.2.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1:4711", "[fd00::1]:80"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["198.51.100.1,"], "10.0.0.1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["1.2.3.4:x"], "10.0.0.1"),
        ("", ["1.2.3.4"], ""),
    ],
)
def test_only_what_trusted_proxies_say_is_believed(peer: str, lines: list[str], expected: str):
    assert client(peer, lines, PROXIES) == expected


@given(st.lists(st.text("0123456789abcdef.:[], \t%", max_size=40), max_size=4))
def test_no_forwarded_field_breaks_the_walk(lines: list[str]):
    assert client("10.0.0.1", lines, PROXIES)


def test_a_fixed_answer_is_json_or_text_and_each_caller_has_its_own():
    ready = Ready.of(Fixed(status=201, json={"ok": True}))
    answer = ready.answer()
    assert (answer.status, answer.body) == (201, b'{"ok": true}')
    answer.headers["Content-Type"] = "changed"
    assert ready.answer().headers["content-type"] == "application/json"
    assert Ready.of(Fixed(text="hi")).answer().headers["content-type"].startswith("text/plain")


def test_a_fixed_answer_without_content_has_no_body():
    with pytest.raises(WrongPolicy, match="204"):
        Ready.of(Fixed(status=204, text="x"))


def test_a_caller_stays_and_shares_follow_the_weights():
    split = Split.of([Weighted(service="v1", weight=95), Weighted(service="v2", weight=5)], "r")
    callers = [f"consumer-{n}" for n in range(4000)]
    chosen = [split.choose(who, CIMultiDict()) for who in callers]
    assert chosen == [split.choose(who, CIMultiDict()) for who in callers]
    assert 100 < sum(chosen) < 300
    more = Split.of([Weighted(service="v1", weight=80), Weighted(service="v2", weight=20)], "r")
    later = [more.choose(who, CIMultiDict()) for who in callers]
    assert all(after >= before for before, after in zip(chosen, later, strict=True))


def test_a_header_beats_the_weights_and_weight_0_gets_nobody_else():
    split = Split.of(
        [
            Weighted(service="v0", weight=0),
            Weighted(service="v1", weight=1),
            Weighted(service="v2", weight=0, header=("X-Canary", "yes")),
        ]
    )
    assert {split.choose(f"c{n}", CIMultiDict()) for n in range(100)} == {1}
    assert split.choose("c1", CIMultiDict({"x-canary": "yes"})) == 2
    assert split.choose("c1", CIMultiDict({"x-canary": "no"})) == 1


def test_a_mirror_of_all_gets_all():
    assert copied(100, 0.999999)
    assert copied(1, 0.0)
    assert not copied(1, 0.01)


METERS = Meters.of(
    [
        Metered(meter="tokens", header="X-Tokens"),
        Metered(meter="tokens", body="/usage/total"),
        Metered(meter="traffic", value="bytesOut"),
    ]
)


def read(headers: CIMultiDict[str], body: bytes | None = None):
    return METERS.read(headers, body, bytes_in=1, bytes_out=5, milliseconds=7)


def test_amounts_come_from_headers_and_bodies_and_the_header_is_not_sent_on():
    headers = CIMultiDict({"x-tokens": "40", "Content-Type": "application/json; charset=utf-8"})
    assert METERS.wants(headers)
    measured = read(headers, b'{"usage": {"total": 2.0}}')
    assert measured.amounts == {"tokens": 42, "traffic": 5}
    assert not measured.refused
    assert "x-tokens" not in headers


@pytest.mark.parametrize(
    "amount", ["-1", "1.5", "1e3", "", "NaN", "0x10", "\u0661", "1,2", str(MOST + 1), "9" * 40]
)
def test_an_amount_in_a_header_that_is_none_is_refused_and_counts_nothing(amount: str):
    measured = read(CIMultiDict({"x-tokens": amount}))
    assert measured.amounts == {"traffic": 5}
    assert measured.refused == ("tokens",)


def test_two_fields_for_one_amount_are_refused():
    measured = read(CIMultiDict([("x-tokens", "1"), ("X-Tokens", "2")]))
    assert measured.refused == ("tokens",)


@pytest.mark.parametrize("amount", ["-1", "1.5", "true", '"7"', "1e300", "[]", "1e999"])
def test_an_amount_in_a_body_that_is_none_is_refused(amount: str):
    measured = read(CIMultiDict(), b'{"usage": {"total": %s}}' % amount.encode())
    assert measured.amounts == {"traffic": 5}
    assert measured.refused == ("tokens",)


def test_an_answer_that_says_nothing_counts_nothing():
    assert read(CIMultiDict(), b"{}").amounts == {"traffic": 5}
    assert not METERS.wants(CIMultiDict({"Content-Type": "text/html"}))
