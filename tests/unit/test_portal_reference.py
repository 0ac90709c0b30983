"""OpenAPI documents as people read them."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.portal import BOOKS, SHOP

from gateway.portal.reference.document import Shelf
from gateway.portal.reference.operations import REST, of_routes, operations
from gateway.portal.reference.schema import MAX_ROWS, Refs, example, kind, rows, shown
from wherry.config import load
from wherry.model.product import ApiProductSpec

DOCUMENT = yaml.safe_load(BOOKS)


def _world(tmp_path, openapi: str | None = None, name: str = "bookshop.yaml"):
    (tmp_path / "shop.yml").write_text(SHOP.replace("bookshop.yaml", f"api/{name}"))
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / name).write_text(BOOKS if openapi is None else openapi)
    return load(tmp_path)


def _shop(tmp_path):
    return _world(tmp_path).products["bookshop"].spec


def test_operations_have_their_parameters_bodies_and_answers(tmp_path):
    found = {each.id: each for each in operations(DOCUMENT, _shop(tmp_path))}
    assert list(found) == ["listBooks", "readBook", "placeOrder", "dropCatalogue"]
    limit, author = found["listBooks"].parameters
    assert (limit.where, limit.kind, limit.sample, limit.required) == (
        "query",
        "integer",
        "10",
        False,
    )
    assert author.name == "author"
    assert [p.required for p in found["readBook"].parameters] == [True]
    assert json.loads(found["placeOrder"].body.sample) == {
        "book": 1,
        "copies": 1,
        "gift": {"wrap": True, "message": "text"},
    }
    assert [reply.status for reply in found["listBooks"].replies] == ["200", "429"]
    assert found["dropCatalogue"].deprecated


def test_a_schema_that_holds_itself_is_shown_once(tmp_path):
    read = rows(Refs(DOCUMENT), {"$ref": "#/components/schemas/Book"})
    assert [(row.depth, row.name) for row in read] == [
        (0, "id"),
        (0, "title"),
        (0, "language"),
        (0, "follows"),
    ]
    assert read[3].kind == "Book"
    book = example(Refs(DOCUMENT), {"$ref": "#/components/schemas/Book"})
    assert book == {"id": 1, "title": "The Left Hand of Darkness", "language": "en"}
    assert read[2].bounds == "one of en, de, fr"


def test_paths_ahead_of_which_the_gateway_puts_something_are_shown_as_it_knows_them(tmp_path):
    document = {
        "servers": [{"url": "https://old.example.com/books"}],
        "paths": {"/{id}": {"get": {"operationId": "read"}}},
    }
    [found] = operations(document, _shop(tmp_path))
    assert found.path == "/books/{id}"


def test_a_product_without_a_document_shows_its_routes(tmp_path):
    found = of_routes(_world(tmp_path).products["weather"].spec)
    assert [(each.method, each.path) for each in found] == [("GET", "/weather/{place}")]
    assert [each.name for each in found[0].parameters] == ["place"]


def test_a_parameter_for_the_rest_of_a_path_says_so():
    routes = [{"path": "/files/{drive}/{rest+}", "to": {"mock": {"status": 204}}}]
    spec = ApiProductSpec.model_validate({"plans": ["free"], "routes": routes})
    [found] = of_routes(spec)
    assert found.path == "/files/{drive}/{rest}"
    assert [(p.name, p.kind) for p in found.parameters] == [("drive", "string"), ("rest", REST)]


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"$ref": "#/a"}, {"type": "object", "properties": {"x": {"type": "null"}}}]},
        {"oneOf": [{"type": "string"}, {"$ref": "#/nowhere"}]},
        {"type": ["null", "string"], "format": "uuid"},
        {"items": {"items": {"items": {}}}},
        {"properties": "none", "required": 3, "enum": 4, "allOf": 5, "oneOf": 6},
        {"$ref": "https://example.com/remote.json"},
        {"$ref": "#/loop"},
        "text",
        None,
        [],
    ],
)
def test_odd_schemas_are_shown_as_well_as_can_be(schema):
    refs = Refs({"a": {"type": "object"}, "loop": {"$ref": "#/loop"}})
    assert isinstance(kind(refs, schema), str)
    assert len(rows(refs, schema)) <= MAX_ROWS
    assert isinstance(shown(example(refs, schema)), str)


def test_a_schema_that_grows_without_end_is_cut(tmp_path):
    members = {f"m{n}": {"$ref": f"#/s/{n}"} for n in range(50)}
    document = {"s": {str(n): {"properties": members} for n in range(50)}}
    assert len(rows(Refs(document), {"$ref": "#/s/0"})) == MAX_ROWS


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["paths", "/a", "get", "parameters", "schema", "$ref", "properties", "items", "oneOf",
             "allOf", "responses", "200", "content", "application/json", "requestBody", "servers",
             "url", "examples", "example", "tags", "type", "required"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=30,
)  # fmt: skip


@given(document=st.dictionaries(st.sampled_from(["paths", "servers"]), _JSON))
def test_no_document_makes_it_fail(document):
    product = _PRODUCT
    for found in operations(document, product):
        assert found.method


_PRODUCT = None


@pytest.fixture(autouse=True, scope="module")
def _product(tmp_path_factory):
    global _PRODUCT  # noqa: PLW0603
    _PRODUCT = _shop(tmp_path_factory.mktemp("product"))


def test_a_document_in_a_file_is_read_again_when_it_changes(tmp_path):
    world = _world(tmp_path)
    shelf, product = Shelf(), world.products["bookshop"]
    assert len(shelf.operations(world, product)) == 4
    assert shelf.operations(world, product) is shelf.operations(world, product)
    (tmp_path / "api" / "bookshop.yaml").write_text(
        "openapi: 3.1.0\npaths: {/books: {get: {summary: Anew}}}"
    )
    assert [each.title for each in shelf.operations(world, product)] == ["Anew"]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\npaths: *a",
        "- a list",
        "paths: {",
        "x: !!python/object/apply:os.system [ls]",
        "x" * (5 << 20),
    ],
)
def test_a_file_that_cannot_be_used_leaves_the_routes(tmp_path, text):
    world = _world(tmp_path)
    (tmp_path / "api" / "bookshop.yaml").write_text(text)
    found = Shelf().operations(world, world.products["bookshop"])
    assert [each.id for each in found] == ["listBooks", "readBook", "placeOrder"]


def test_a_document_in_the_product_is_read_once_and_anew_with_another_product(tmp_path):
    world = _world(tmp_path)
    shop = world.products["bookshop"]
    inline = shop.model_copy(update={"spec": shop.spec.model_copy(update={"openapi": DOCUMENT})})
    shelf = Shelf()
    first = shelf.operations(world, inline)
    assert shelf.operations(world, inline) is first
    other = inline.spec.model_copy(update={"openapi": {"paths": {}}})
    assert not shelf.operations(world, inline.model_copy(update={"spec": other}))


@pytest.mark.parametrize("name", ["deep.json", "deep.yaml"])
def test_a_file_of_deep_nesting_leaves_the_routes(tmp_path, name):
    world = _world(tmp_path, name=name)
    (tmp_path / "api" / name).write_text("[" * 200_000)
    assert len(Shelf().operations(world, world.products["bookshop"])) == 3
