"""What pages of the portal are made of."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from gateway.portal.layout import Frame, entry, page, paragraphs
from gateway.portal.markup import el, joined
from gateway.portal.plot import Bar, Plot, ceiling, columns, line, short


class _Seen(HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def _seen(html: str) -> _Seen:
    seen = _Seen()
    seen.feed(html)
    seen.close()
    return seen


@given(st.text())
def test_text_never_becomes_an_element(text):
    seen = _seen(el("p", text, title=text))
    assert seen.tags == ["p"]
    assert seen.attributes == [("title", text)] or "\r" in text or "\0" in text


def test_elements_nest_and_none_is_left_out():
    made = el("p", "a ", el("b", "<b>"), None, class_="x", hidden=True, id=None)
    assert made == '<p class="x" hidden>a <b>&lt;b&gt;</b></p>'
    assert joined(["<", el("br")]) == "&lt;<br>"


def test_names_of_data_and_aria_get_hyphens():
    assert el("input", data_role="key", for_="a") == '<input data-role="key" for="a">'


def test_a_fault_is_tied_to_its_field():
    made = _seen(entry("email", "Email", fault="Wrong.", hint="Yours."))
    assert ("aria-describedby", "email-hint email-fault") in made.attributes
    assert ("aria-invalid", "true") in made.attributes
    assert ("id", "email-fault") in made.attributes


def test_a_page_has_its_landmarks_and_no_inline_script_or_style():
    text = page(Frame("Keys", "/keys", "guard", "Ada"), el("h1", "Keys"))
    seen = _seen(text)
    assert [seen.tags.count(tag) for tag in ("main", "nav", "header", "footer", "h1")] == [1] * 5
    assert ("aria-current", "page") in seen.attributes
    assert not [name for name, _ in seen.attributes if name == "style" or name.startswith("on")]
    assert "style" not in seen.tags
    assert text.count("<script") == text.count("<script src=")


def test_paragraphs_show_code_between_backticks_and_nothing_else_as_html():
    assert paragraphs("one `x`\n\n<b>two</b>") == (
        "<p>one <code>x</code></p><p>&lt;b&gt;two&lt;/b&gt;</p>"
    )
    assert paragraphs("an odd ` stays") == "<p>an odd ` stays</p>"


@given(st.integers(min_value=1, max_value=10**15))
def test_an_axis_reaches_what_it_shows_and_not_far_beyond(most):
    top = ceiling(most)
    assert most <= top
    assert top % 4 == 0
    assert top <= max(4, most * 5 // 2)


def test_axis_numbers_are_short():
    said = [short(n) for n in (0, 950, 1500, 20_000_000, 10**12)]
    assert said == ["0", "950", "1.5k", "20M", "1T"]


def _plot(*amounts: int, **more: int) -> Plot:
    bars = [Bar(f"{n} Nov", amount) for n, amount in enumerate(amounts, 1)]
    return Plot("p", "Requests", "What was used.", "requests", bars, **more)


def test_a_plot_names_and_describes_itself_and_can_be_read_as_a_table():
    seen = _seen(columns(_plot(3, 0, 7)))
    assert ("role", "img") in seen.attributes
    assert ("aria-labelledby", "p-title p-about") in seen.attributes
    assert seen.tags.count("tr") == 4
    assert seen.tags.count("rect") == 2, "a step without use has no column"


def test_a_line_ends_now_and_the_quota_is_a_line_across():
    drawn = line(_plot(3, 5, 5, 5, limit=10, until=2))
    assert "Quota 10" in drawn
    assert drawn.count("<tr>") == 3, "the future is not in the table"
    [curve] = [d for name, d in _seen(drawn).attributes if name == "d" and "Z" not in d]
    assert curve.count("L") == 2


def test_a_plot_of_nothing_is_still_a_plot():
    for draw in (columns, line):
        assert "<svg" in draw(_plot())
        assert "<svg" in draw(_plot(0, 0, limit=0, until=1))
