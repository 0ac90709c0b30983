"""Paths in one spelling, and the routing table that is matched with them."""

from http import HTTPStatus
from pathlib import Path as File
from urllib.parse import quote, unquote

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway import fields, path
from gateway.catalogue import Catalogue, Route, TemplateError, WrongMethod
from gateway.path import Path, canonical
from gateway.problem import Refused
from wherry.config import assemble

SEGMENTS = st.text(
    st.characters(exclude_characters="/\\;\x7f", min_codepoint=0x20, exclude_categories=["Cs"]),
    min_size=1,
    max_size=8,
).filter(lambda segment: segment not in {".", ".."} and unquote(segment) == segment)


def compiled(*routes, products=(), subscriptions=()):
    shown = [{"kind": "Plan", "metadata": {"name": "p"}, "spec": {"rate": {"requests": 1}}}]
    for name, its in [("main", routes), *products]:
        spec = {
            "plans": ["p"],
            "routes": [
                {"path": template, "methods": methods, "to": {"function": f"f{n}"} | to}
                for n, (template, methods, *tos) in enumerate(its)
                for to in (tos or [{}])
            ],
        }
        shown.append({"kind": "ApiProduct", "metadata": {"name": name}, "spec": spec})
    documents = [{"apiVersion": "wherry.dev/v1", **each} for each in shown]
    return Catalogue.of(assemble({File("w.yaml"): yaml.safe_dump_all(documents)}))


def found(catalogue, method, target):
    match catalogue.match(method, canonical(target)):
        case Route() as route:
            return route.template
        case WrongMethod() as wrong:
            return wrong.allowed
        case None:
            return None


# Paths


@given(st.lists(SEGMENTS, min_size=1, max_size=5), st.booleans())
def test_any_segments_come_back_from_their_canonical_path(segments, folder):
    given = "/" + "/".join(quote(segment, safe="") for segment in segments) + "/" * folder
    seen = canonical(given)
    assert seen.segments == (*segments, *[""] * folder)
    assert canonical(seen.text) == seen
    assert unquote(seen.text) == unquote(given)


@given(st.text(max_size=30))
def test_every_target_is_refused_or_has_exactly_one_spelling(text):
    try:
        seen, _ = path.split("/" + text)
    except Refused:
        return
    assert canonical(seen.text) == seen
    assert not {".", ".."} & set(seen.segments)
    assert "" not in seen.segments[:-1]
    assert not any(set(segment) & set("/\\\x00") for segment in seen.segments)


@pytest.mark.parametrize(
    "target",
    ["/a/../b", "/%2e", "//", "/a%2fb", "/a%5cb", "/%00", "/%ff", "/%g0", "/%2541", "/a;b", "/%3b"],
)
def test_a_target_that_could_mean_two_things_is_a_bad_request(target):
    with pytest.raises(Refused) as refused:
        path.split(target)
    assert refused.value.status is HTTPStatus.BAD_REQUEST


def test_spellings_of_one_path_are_one():
    assert canonical("/%61%2D%7Eb").text == "/a-~b"
    assert canonical("/a%20b").text == "/a%20b"
    assert canonical("/caf%c3%a9") == canonical("/caf%C3%A9") == Path("/caf%C3%A9", ("café",))


def test_the_whole_url_form_of_a_target_means_its_path():
    assert path.split("http://host:80/a?b")[0].text == "/a"
    assert path.split("HTTP://host") == (Path("/", ("",)), "")


def test_a_parameter_is_taken_out_and_the_rest_keeps_its_spelling():
    assert path.without("a=%20&k=1&&b", "k") == ("a=%20&&b", "1")
    assert path.without("k=1&k=2", "k") == ("", "")
    assert path.without("a=1&ak=2", "k") == ("a=1&ak=2", None)
    assert path.without("", "k") == ("", None)


# Matching


def test_the_most_particular_template_wins():
    table = compiled(
        ("/a/{rest+}", []), ("/a/{x}", []), ("/a/b", []), ("/a/{x}/c", []), ("/a/b/{rest+}", [])
    )
    assert found(table, "GET", "/a/b") == "/a/b"
    assert found(table, "GET", "/a/x") == "/a/{x}"
    assert found(table, "GET", "/a/x/c") == "/a/{x}/c"
    assert found(table, "GET", "/a/b/c") == "/a/b/{rest+}"
    assert found(table, "GET", "/a/x/y") == "/a/{rest+}"
    assert found(table, "GET", "/a") is None
    assert found(table, "GET", "/a/") is None
    assert found(table, "GET", "/") is None


def test_a_match_steps_back_when_a_literal_leads_nowhere():
    table = compiled(("/a/b/c", []), ("/{x}/b/d", []), ("/{x}/{y}/{z}", []))
    assert found(table, "GET", "/a/b/d") == "/{x}/b/d"
    assert found(table, "GET", "/a/b/e") == "/{x}/{y}/{z}"


def test_methods_choose_among_templates_and_the_rest_is_named():
    table = compiled(("/a/b", ["GET"]), ("/a/{x}", ["POST"]), ("/{rest+}", ["PUT", "GET"]))
    assert found(table, "POST", "/a/b") == "/a/{x}"
    assert found(table, "PUT", "/a/b") == "/{rest+}"
    assert found(table, "DELETE", "/a/b") == ("GET", "POST", "PUT")


def test_an_escaped_path_matches_what_it_means():
    table = compiled(("/a b".replace(" ", "-"), []), ("/{x}/z", []))
    assert found(table, "GET", "/%61-b") == "/a-b"
    route = table.match("GET", canonical("/a%20%C3%A9/z"))
    assert route.parameters(canonical("/a%20%C3%A9/z")) == {"x": "a é"}


def test_variables_take_their_segments_and_the_rest():
    table = compiled(("/u/{id}/{rest+}", []))
    target = canonical("/u/7/a/b%20c/")
    route = table.match("GET", target)
    assert route.parameters(target) == {"id": "7", "rest": "a/b c/"}


@pytest.mark.parametrize(
    ("template", "rewrite", "target", "forwarded"),
    [
        ("/shop/{rest+}", "/", "/shop/a/b%20c", "/a/b%20c"),
        ("/shop/{rest+}", "/v2", "/shop/a/", "/v2/a/"),
        ("/shop/{rest+}", "/v2/", "/shop/a", "/v2/a"),
        ("/u/{id}/{rest+}", "/x", "/u/7/a", "/x/a"),
        ("/shop/{id}", "/thing", "/shop/7", "/thing"),
        ("/shop/{rest+}", None, "/shop/%61", "/shop/a"),
    ],
)
def test_a_rewrite_takes_the_place_of_what_stands_before_the_rest(
    template, rewrite, target, forwarded
):
    to = {} if rewrite is None else {"rewrite": rewrite}
    table = compiled((template, [], to))
    seen = canonical(target)
    route = table.match("GET", seen)
    assert route.forwarded(seen, route.target.upstreams[0]) == forwarded


@pytest.mark.parametrize(
    "template",
    [
        "/a/{rest+}/b",
        "/a/{x}/{x}",
        "/a/{x}/{x+}",
        "/a/b{x}",
        "/a/{}",
        "/a//b",
        "/a//{rest+}",
        "/a/../b",
        "/a%20b",
        "/é",
        "/.wherry/x",
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_product_and_path(template):
    with pytest.raises(TemplateError, match="product 'main' path"):
        compiled((template, []))


def test_routes_that_two_products_share_stay_with_the_first_by_name():
    table = compiled(
        ("/a", ["GET"]), ("/b", []), products=[("again", [("/a", ["GET", "PUT"]), ("/b", ["GET"])])]
    )
    assert table.overlapping == ("main GET /a", "main GET /b")
    assert table.match("GET", canonical("/a")).product == "again"
    assert table.match("PUT", canonical("/b")).product == "main"


# Fields


def test_hop_by_hop_fields_end_here_and_repeated_ones_travel_on():
    given = fields.CIMultiDict(
        [
            ("Connection", "close, X-A"),
            ("X-A", "1"),
            ("X-B", "1"),
            ("X-B", "2"),
            ("Via", "1.0 fred"),
        ]
    )
    kept = fields.back(given)
    assert "X-A" not in kept
    assert "Connection" not in kept
    assert kept.getall("X-B") == ["1", "2"]
    assert kept.getall("Via") == ["1.0 fred", "1.1 wherry"]


def test_cookies_of_answers_stay_but_for_those_of_the_portal():
    plain = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=wherry_portal")]
    assert fields.back(plain).getall("Set-Cookie") == ["a=1", "b=wherry_portal"]
    ours = [("Set-Cookie", "wherry_portal=1; Path=/"), ("Set-Cookie", " wherry_visit =1")]
    assert fields.back([*ours, *plain]).getall("Set-Cookie") == ["a=1", "b=wherry_portal"]
    assert "Set-Cookie" not in fields.back(ours)
