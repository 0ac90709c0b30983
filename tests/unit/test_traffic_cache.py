"""The cache: what is kept, for whom, for how long, and what the upstream is asked."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from multidict import CIMultiDict

from gateway.call import Answer, Caller, Head
from gateway.path import canonical
from gateway.problem import Refused
from gateway.traffic.cache import dates
from gateway.traffic.cache.asked import Asked
from gateway.traffic.cache.caching import Caching
from gateway.traffic.cache.directives import Directives
from gateway.traffic.cache.entry import Entry
from gateway.traffic.cache.kept import Cache, Uri
from gateway.traffic.cache.outcome import Forward, Hit, Keep
from wherry.model.traffic import Cache as Model

NOW = 1_800_000_000.0


def asked(
    path: str = "/a",
    *,
    method: str = "GET",
    consumer: str = "acme",
    subject: str | None = None,
    query: str = "",
    by: str = "apiKey",
    own: tuple[str, ...] = (),
    **fields: str,
) -> Asked:
    headers = CIMultiDict({name.replace("_", "-"): value for name, value in fields.items()})
    head = Head(method, canonical(path), query, "api.example", headers, "192.0.2.1")
    return Asked(head, "shop", Caller(consumer, "web", "k1", by, subject=subject), own)


class Front:
    """A policy and its cache, with the upstream's answers given by the test."""

    def __init__(self, **model: object):
        self.cache = Cache()
        self.caching = Caching.of(Model.model_validate(model))

    def look(self, request: Asked, now: float = NOW) -> Hit | Forward:
        return self.caching.look(self.cache, request, now)

    def answer(
        self,
        request: Asked,
        status: int = 200,
        body: bytes = b"hello",
        now: float = NOW,
        **fields: str,
    ) -> Answer | None:
        """Pass a request on; keep the answer if it may be, or return what takes its place."""
        forward = self.look(request, now)
        assert isinstance(forward, Forward)
        headers = CIMultiDict({name.replace("_", "-"): value for name, value in fields.items()})
        became = self.caching.answered(self.cache, forward, status, headers, now)
        if isinstance(became, Keep):
            self.caching.keep(self.cache, became, body)
            return None
        return became

    def hit(self, request: Asked, now: float = NOW) -> Hit:
        found = self.look(request, now)
        assert isinstance(found, Hit)
        return found

    def forward(self, request: Asked, now: float = NOW) -> Forward:
        found = self.look(request, now)
        assert isinstance(found, Forward)
        return found


def test_a_fresh_answer_is_served_with_its_age_until_it_is_stale():
    front = Front()
    front.answer(asked(), Cache_Control="max-age=60", Content_Type="text/plain", Age="10")
    hit = front.hit(asked(), NOW + 49)
    assert hit.answer.body == b"hello"
    assert hit.answer.headers["Age"] == "59"
    assert hit.answer.headers["Cache-Status"] == "wherry; hit; ttl=1"
    assert hit.answer.headers["Date"] == dates.shown(NOW)
    assert front.forward(asked(), NOW + 50).why == "stale"


@pytest.mark.parametrize(
    ("fields", "fresh_for"),
    [
        ({"Cache_Control": "max-age=5, s-maxage=20"}, 20),
        ({"Cache_Control": "MAX-AGE=5"}, 5),
        ({"Cache_Control": 'max-age="5"'}, 5),
        ({"Expires": dates.shown(NOW + 30), "Date": dates.shown(NOW)}, 30),
        ({"Expires": dates.shown(NOW + 30), "Cache_Control": "max-age=7"}, 7),
        ({"Date": dates.shown(NOW - 10), "Cache_Control": "max-age=25"}, 15),
        ({"Cache_Control": "no-store, must-understand, max-age=9"}, 9),
        ({"Cache_Control": "max-age=99999999999999999999"}, 1 << 31),
    ],
)
def test_freshness_follows_what_the_answer_says(fields: dict[str, str], fresh_for: int):
    front = Front()
    front.answer(asked(), **fields)
    front.hit(asked(), NOW + fresh_for - 0.5)
    front.forward(asked(), NOW + fresh_for + 0.5)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Cache_Control": "no-store, max-age=5"},
        {"Cache_Control": "private, max-age=5"},
        {"Cache_Control": 'private="x-name", max-age=5'},
        {"Cache_Control": "max-age=5; private"},
        {"Cache_Control": "max-age=5, max-age=6"},
        {"Cache_Control": "max-age=-5"},
        {"Cache_Control": "max-age=x"},
        {"Cache_Control": "no-cache"},
        {"Cache_Control": "max-age=5", "Vary": "accept, *"},
        {"Cache_Control": "max-age=5", "Vary": "X-Forwarded-For"},
        {"Cache_Control": "max-age=5", "Set_Cookie": "a=b"},
        {"Cache_Control": "max-age=5", "Content_Length": "9999999"},
        {"Expires": "0"},
        {"Expires": dates.shown(NOW - 5)},
    ],
)
def test_what_must_not_be_kept_is_not(fields: dict[str, str]):
    front = Front()
    front.answer(asked(), **fields)
    front.forward(asked())
    assert len(front.cache) == 0


@pytest.mark.parametrize("status", [100, 206, 304, 401, 429, 500, 503])
def test_parts_refusals_and_failures_are_not_kept(status: int):
    front = Front(default="1h")
    front.answer(asked(), status, Cache_Control="max-age=60")
    assert len(front.cache) == 0


def test_an_answer_that_says_nothing_counts_as_long_as_the_policy_says():
    front = Front(default="10s")
    front.answer(asked())
    front.hit(asked(), NOW + 9)
    front.forward(asked(), NOW + 11)
    front.answer(asked("/found"), 302)
    front.forward(asked("/found"))


def test_a_body_that_turns_out_too_long_is_not_kept():
    front = Front(mostBytes=4)
    front.answer(asked(), Cache_Control="max-age=60")
    front.forward(asked())


def test_each_consumer_and_each_subject_has_answers_of_their_own():
    front = Front()
    front.answer(asked(), Cache_Control="max-age=60")
    front.hit(asked())
    front.forward(asked(consumer="other"))
    front.forward(asked(subject="alice"))


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("max-age=60", False),
        ("max-age=60, public", True),
        ("s-maxage=60", True),
        ("max-age=60, must-revalidate", True),
    ],
)
def test_a_key_is_an_authorization_where_answers_are_for_everyone(said: str, *, kept: bool):
    front = Front(byConsumer=False)
    front.answer(asked(), Cache_Control=said)
    assert isinstance(front.look(asked(consumer="other")), Hit) is kept
    front.answer(asked("/b", by="anonymous"), Cache_Control=said)
    front.hit(asked("/b", consumer="other"))


@pytest.mark.parametrize("field", ["Authorization", "Cookie"])
def test_what_a_person_shows_the_upstream_is_never_shared_by_accident(field: str):
    front, alice, bob = Front(), asked(**{field: "alice"}), asked(**{field: "bob"})
    front.answer(alice, Cache_Control="max-age=60")
    front.forward(bob)
    front.answer(asked(), Cache_Control="max-age=60")
    front.forward(bob)
    front.hit(asked(own=(field.lower(),), **{field: "the gateway's own"}))
    front.answer(alice, Cache_Control="max-age=60, public")
    front.hit(bob)


def test_variants_are_chosen_by_the_fields_that_the_answer_varies_by():
    front = Front()
    for language in ("de", "en"):
        front.answer(
            asked(Accept_Language=language),
            body=language.encode(),
            Cache_Control="max-age=60",
            Vary="Accept-Language",
        )
    assert front.hit(asked(Accept_Language="de")).answer.body == b"de"
    assert front.hit(asked(Accept_Language="en ")).answer.body == b"en"
    assert front.forward(asked(Accept_Language="fr")).why == "vary-miss"


def test_an_answer_may_vary_by_the_consumer_as_the_gateway_names_them():
    front = Front(byConsumer=False)
    front.answer(asked(), Cache_Control="s-maxage=60", Vary="X-Wherry-Consumer")
    front.hit(asked(X_Wherry_Consumer="forged"))
    front.forward(asked(consumer="other", X_Wherry_Consumer="acme"))


@pytest.mark.parametrize(
    ("said", "hit"),
    [
        ("no-cache", False),
        ("max-age=5", False),
        ("max-age=50", True),
        ("min-fresh=30", True),
        ("min-fresh=50", False),
        ("no-store", True),
    ],
)
def test_a_client_may_ask_for_a_fresher_answer(said: str, *, hit: bool):
    front = Front()
    front.answer(asked(), Cache_Control="max-age=60", ETag='"1"')
    found = front.look(asked(Cache_Control=said), NOW + 20)
    assert isinstance(found, Hit) is hit
    if isinstance(found, Forward):
        assert found.why == "request"
        assert found.conditions == {"If-None-Match": '"1"'}
    assert isinstance(front.look(asked(Pragma="no-cache"), NOW + 20), Forward)


def test_a_client_may_take_a_stale_answer_unless_the_upstream_forbids_it():
    front = Front()
    front.answer(asked(), Cache_Control="max-age=10")
    front.answer(asked("/strict"), Cache_Control="max-age=10, must-revalidate")
    front.hit(asked(Cache_Control="max-stale"), NOW + 500)
    front.hit(asked(Cache_Control="max-stale=5"), NOW + 14)
    front.forward(asked(Cache_Control="max-stale=5"), NOW + 16)
    front.forward(asked("/strict", Cache_Control="max-stale"), NOW + 11)
    front.answer(asked("/shared"), Cache_Control="s-maxage=10")
    front.forward(asked("/shared", Cache_Control="max-stale"), NOW + 11)


def test_an_answer_to_a_client_that_wants_nothing_kept_is_not():
    front = Front()
    front.answer(asked(Cache_Control="no-store"), Cache_Control="max-age=60")
    front.forward(asked())


def test_only_if_cached_is_answered_here_or_not_at_all():
    with pytest.raises(Refused) as refused:
        Front().look(asked(Cache_Control="only-if-cached"))
    assert refused.value.status == 504


def test_a_stale_answer_is_asked_about_and_freshened_by_a_304():
    front = Front()
    front.answer(asked(), Cache_Control="max-age=10", ETag='"1"', Content_Type="text/plain")
    forward = front.forward(asked(If_None_Match='"old"'), NOW + 20)
    sent = CIMultiDict({"if-none-match": '"old"', "If-Modified-Since": "x", "Accept": "*/*"})
    forward.condition(sent)
    assert dict(sent) == {"Accept": "*/*", "If-None-Match": '"1"'}
    back = CIMultiDict({"ETag": '"1"', "Cache-Control": "max-age=40", "X-New": "1"})
    answer = front.caching.answered(front.cache, forward, 304, back, NOW + 20)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.body, answer.headers["X-New"]) == (200, b"hello", "1")
    assert answer.headers["Content-Type"] == "text/plain"
    assert "fwd=stale; fwd-status=304" in answer.headers["Cache-Status"]
    assert front.hit(asked(), NOW + 55).answer.headers["Age"] == "35"


def test_a_304_about_another_version_is_the_upstreams_fault_and_forgets_ours():
    front = Front()
    front.answer(asked(), Cache_Control="max-age=10", ETag='"1"')
    with pytest.raises(Refused) as refused:
        front.answer(asked(), 304, now=NOW + 20, ETag='"2"')
    assert refused.value.status == 502
    assert front.forward(asked()).why == "uri-miss"


def test_no_cache_is_kept_and_asked_about_each_time():
    front = Front()
    front.answer(asked(), Cache_Control="no-cache", ETag='"1"')
    forward = front.forward(asked())
    assert forward.conditions == {"If-None-Match": '"1"'}
    answer = front.answer(asked(), 304)
    assert answer is not None
    assert answer.body == b"hello"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"If_None_Match": '"x", W/"1"'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"2"'}, 200),
        ({"If_None_Match": '"2"', "If_Modified_Since": dates.shown(NOW)}, 200),
        ({"If_Modified_Since": dates.shown(NOW - 100)}, 304),
        ({"If_Modified_Since": dates.shown(NOW - 101)}, 200),
        ({"If_Modified_Since": "yesterday"}, 200),
    ],
)
def test_a_client_that_has_the_answer_gets_a_304(fields: dict[str, str], status: int):
    front = Front()
    modified = dates.shown(NOW - 100)
    front.answer(
        asked(), Cache_Control="max-age=60", ETag='"1"', Last_Modified=modified, X_Other="1"
    )
    answer = front.hit(asked(**fields)).answer
    assert answer.status == status
    assert answer.headers["ETag"] == '"1"'
    if status == 304:
        assert answer.body == b""
        assert "X-Other" not in answer.headers


def test_while_one_request_asks_afresh_others_get_the_stale_answer():
    front = Front()
    front.answer(asked(), Cache_Control="max-age=10, stale-while-revalidate=30", ETag='"1"')
    first = front.hit(asked(), NOW + 20)
    assert first.refresh is not None
    assert first.refresh.conditions == {"If-None-Match": '"1"'}
    assert front.hit(asked(), NOW + 20).refresh is None
    answered = CIMultiDict({"Cache-Control": "max-age=10, stale-while-revalidate=30"})
    front.caching.answered(front.cache, first.refresh, 304, answered, NOW + 21)
    assert front.hit(asked(), NOW + 22).refresh is None
    assert front.hit(asked(), NOW + 35).refresh is not None
    front.forward(asked(), NOW + 70)


def test_a_kept_answer_stands_in_for_a_broken_upstream_if_it_said_so():
    front = Front()
    front.answer(asked(), Cache_Control="max-age=10, stale-if-error=60")
    front.answer(asked("/b"), Cache_Control="max-age=10")
    front.answer(asked("/c"), Cache_Control="max-age=10, stale-if-error=60, must-revalidate")
    instead = front.answer(asked(), 503, now=NOW + 50)
    assert instead is not None
    assert "stale-if-error" in instead.headers["Cache-Status"]
    forward = front.forward(asked(), NOW + 50)
    assert front.caching.failed(forward, NOW + 50) is not None
    assert front.caching.failed(forward, NOW + 71) is None
    assert front.answer(asked("/b"), 503, now=NOW + 50) is None
    assert front.answer(asked("/c"), 503, now=NOW + 50) is None


def test_a_change_makes_what_is_kept_invalid_for_everyone():
    front = Front()
    for path in ("/a", "/b", "/c"):
        front.answer(asked(path), Cache_Control="max-age=60")
        front.answer(asked(path, consumer="other"), Cache_Control="max-age=60")
    front.answer(asked(method="POST"), 400, Location="/b")
    front.hit(asked())
    front.answer(asked(method="POST"), 201, Location="/b", Content_Location="http://evil.test/c")
    front.forward(asked())
    front.forward(asked("/b", consumer="other"))
    front.hit(asked("/c"))


def test_head_is_answered_from_get_and_nothing_of_its_own_is_kept():
    front = Front()
    front.answer(asked(method="HEAD"), Cache_Control="max-age=60")
    assert len(front.cache) == 0
    front.answer(asked(), Cache_Control="max-age=60")
    assert front.hit(asked(method="HEAD")).answer.body == b"hello"


@pytest.mark.parametrize(
    "fields",
    [{"Range": "bytes=0-1"}, {"If_Match": '"1"'}, {"Content_Length": "3"}],
)
def test_what_no_kept_answer_can_be_right_for_goes_past_the_cache(fields: dict[str, str]):
    front = Front()
    front.answer(asked(), Cache_Control="max-age=60")
    forward = front.forward(asked(**fields))
    assert forward.why == "bypass"
    assert not forward.keeps


def test_tags_purge_and_are_not_sent_on():
    front = Front()
    headers = CIMultiDict({"Cache-Control": "max-age=60", "Surrogate-Key": "shoes red"})
    forward = front.forward(asked())
    keep = front.caching.answered(front.cache, forward, 200, headers, NOW)
    assert isinstance(keep, Keep)
    front.caching.keep(front.cache, keep, b"x")
    assert "Surrogate-Key" not in headers
    assert headers["Cache-Status"] == "wherry; fwd=uri-miss; fwd-status=200; stored"
    assert "surrogate-key" not in front.hit(asked()).answer.headers
    assert front.cache.purge(tag="shoe") == 0
    assert front.cache.purge(tag="shoes", product="shop") == 1
    front.forward(asked())


def test_a_purge_by_path_takes_whole_segments():
    front = Front()
    for path in ("/a", "/a/b", "/ab"):
        front.answer(asked(path), Cache_Control="max-age=60")
    assert front.cache.purge(path_prefix="/a", product="other") == 0
    assert front.cache.purge(path_prefix="/a") == 2
    front.hit(asked("/ab"))
    assert front.cache.purge() == 1
    assert front.cache.size == 0


def entry(size: int, variant: bytes = b"") -> Entry:
    said = Directives({})
    return Entry(200, (), b"x" * size, said, 0, 60, (), variant, frozenset({f"t{size % 3}"}))


def test_variants_of_one_place_make_room_for_the_newest():
    cache, place = Cache(most_bytes=20_000), (Uri("p", "h", "/", ""), "")
    for variant in (b"a", b"b", b"c"):
        cache.keep(place, entry(8_000, variant))
    assert [each.digest for each in cache.variants(place)] == [b"c", b"b"]


class CacheMachine(RuleBasedStateMachine):
    """Whatever comes and goes, the cache counts right and stays within its bounds."""

    def __init__(self):
        super().__init__()
        self.cache = Cache(most_bytes=20_000, most_lines=5)

    places = st.tuples(
        st.builds(Uri, st.sampled_from("pq"), st.just("h"), st.sampled_from("/ab"), st.just("")),
        st.sampled_from("xy"),
    )

    @rule(place=places, size=st.integers(0, 25_000), variant=st.binary(max_size=1))
    def keep(self, place: tuple[Uri, str], size: int, variant: bytes):
        kept = entry(size, variant)
        self.cache.keep(place, kept)
        assert (kept in self.cache.variants(place)) == (kept.size <= 20_000)

    @rule(place=places)
    def look(self, place: tuple[Uri, str]):
        assert len(self.cache.variants(place)) <= 8

    @rule(place=places)
    def invalidate(self, place: tuple[Uri, str]):
        self.cache.invalidate(place[0])
        assert not self.cache.variants(place)

    @rule(product=st.sampled_from(["p", None]), tag=st.sampled_from(["t0", None]))
    def purge(self, product: str | None, tag: str | None):
        self.cache.purge(product=product, tag=tag)

    @invariant()
    def sizes_add_up(self):
        lines = list(self.cache._lines.items())
        assert self.cache.size == sum(e.size for _, line in lines for e in line.entries)
        assert self.cache.size <= 20_000
        assert len(lines) <= 5
        assert all(line.entries for _, line in lines)
        found = {(uri, who) for uri, all_ in self.cache._callers.items() for who in all_}
        assert found == {place for place, _ in lines}


CacheMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25)
TestCacheMachine = CacheMachine.TestCase


@given(st.text(max_size=60))
def test_no_cache_control_breaks_its_reader(text: str):
    said = Directives.of(CIMultiDict({"Cache-Control": text}))
    assert all(name == name.lower() for name in said.values)


@given(st.integers(0, 4_000_000_000))
def test_dates_are_read_in_all_three_forms(at: int):
    day = time.gmtime(at)
    assert dates.parsed(dates.shown(at), NOW) == at
    assert dates.parsed(time.strftime("%a %b %e %H:%M:%S %Y", day), NOW) == at
    short = dates.parsed(time.strftime("%A, %d-%b-%y %H:%M:%S GMT", day), at)
    assert short == at


@pytest.mark.parametrize("text", ["", "0", "Mon, 99 Jan 2020 00:00:00 GMT", "2020-01-01"])
def test_what_is_no_date_is_none(text: str):
    assert dates.parsed(text, NOW) is None
