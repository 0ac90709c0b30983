"""Products made from OpenAPI documents."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gateway.catalogue import Catalogue
from gateway.traffic.openapi.document import WrongDocument
from gateway.traffic.openapi.imported import Wanted, imported
from wherry.cli.api import app
from wherry.config import load
from wherry.errors import ConfigError

SHOP = """\
openapi: 3.0.3
info: {title: "The Shop API!", version: 1.2 beta, description: Sells things.}
servers:
  - url: https://shop.example/api/v3/
security:
  - oauth: [read]
paths:
  /items:
    get:
      operationId: listItems
      responses: {200: {description: ok}}
    post:
      operationId: addItem
      security:
        - oauth: [write, read]
      responses: {201: {description: made}}
  /items/{item-id}:
    get:
      operationId: getItem
      security:
        - key: []
      responses: {200: {description: ok}}
  /items/{item-id}:buy:
    post: {operationId: buy, responses: {200: {description: ok}}}
  /items/{id}:keep:
    post: {operationId: keep, responses: {200: {description: ok}}}
  /status:
    get:
      security: []
      responses: {200: {description: ok}}
components:
  securitySchemes:
    key: {type: apiKey, in: header, name: X-Shop-Key}
    old: {type: apiKey, in: cookie, name: sid}
    oauth:
      type: oauth2
      flows:
        clientCredentials:
          tokenUrl: https://shop.example/token
          scopes: {read: Read it., write: Change it.}
"""

DOCUMENT: dict[str, Any] = yaml.safe_load(SHOP)


def test_each_operation_becomes_a_route():
    made = imported(DOCUMENT, Wanted())
    product = made.product
    assert product["kind"] == "ApiProduct"
    assert product["metadata"] == {"name": "the-shop-api"}
    spec = product["spec"]
    assert (spec["title"], spec["version"]) == ("The Shop API!", "1.2-beta")
    assert spec["authentication"] == [{"type": "oauth2"}]
    assert spec["scopes"] == {"read": "Read it.", "write": "Change it."}
    routes = {(r["methods"][0], r["path"]): r for r in spec["routes"]}
    url = {"url": "https://shop.example"}
    assert routes["GET", "/api/v3/items"] == {
        "path": "/api/v3/items",
        "methods": ["GET"],
        "to": url,
        "operation": "listItems",
        "scopes": ["read"],
    }
    assert routes["POST", "/api/v3/items"]["scopes"] == ["write", "read"]
    item = routes["GET", "/api/v3/items/{item_id}"]
    assert item["authentication"] == [{"type": "apiKey", "header": "X-Shop-Key", "query": None}]
    assert "scopes" not in item
    assert "operation" not in routes["POST", "/api/v3/items/{item_id}"]
    assert "scopes" not in routes["GET", "/api/v3/status"]
    assert len(routes) == 5
    assert any("one route with another" in note for note in made.notes)
    assert any("/status is for everyone" in note for note in made.notes)
    assert made.plan is not None
    assert spec["plans"] == [made.plan["metadata"]["name"]] == ["the-shop-api-free"]


def test_a_product_may_lead_to_a_service_a_function_or_another_url():
    def to(wanted: Wanted) -> tuple[str, dict[str, str]]:
        route = imported(DOCUMENT, wanted).product["spec"]["routes"][0]
        return route["path"], route["to"]

    assert to(Wanted(service="shop")) == ("/api/v3/items", {"service": "shop"})
    assert to(Wanted(function="shop")) == ("/api/v3/items", {"function": "shop"})
    assert to(Wanted(url="http://10.0.0.1:8080")) == (
        "/api/v3/items",
        {"url": "http://10.0.0.1:8080"},
    )
    assert to(Wanted(url="http://10.0.0.1/v9")) == ("/v9/items", {"url": "http://10.0.0.1"})


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"servers": [{"url": "/only/a/path"}]}, "#/servers"),
        ({"paths": {}}, "#/paths"),
        ({"paths": {"/a b": {"get": {}}}}, "#/paths/~1a b"),
        ({"paths": {"/a//b": {"get": {}}}}, "#/paths/~1a~1~1b"),
        ({"paths": {"/a%2fb": {"get": {}}}}, "#/paths/~1a%2fb"),
        ({"info": {"title": "★"}}, "#/info/title"),
        ({"security": [{"none": []}]}, "#/components/securitySchemes/none"),
        ({"security": {}}, "#/security"),
        ({"openapi": "4.0"}, "#/openapi"),
        ({"paths": {f"/a{n}": {"get": {}} for n in range(1025)}}, "#/paths"),
    ],
)
def test_a_document_that_makes_no_product_is_refused_at_its_place(
    change: dict[str, Any], place: str
):
    with pytest.raises(WrongDocument) as error:
        imported({**copy.deepcopy(DOCUMENT), **change}, Wanted())
    assert f" {place}: " in str(error.value)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    return path


def test_what_is_written_is_a_catalogue_that_serves(shop: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / "product.yaml"
    done = run(shop, "--write", out, "--name", "shop", "--validate")
    assert done.exit_code == 0, done.output
    world = load(out)
    assert world.products["shop"].spec.openapi == "../shop.yaml"
    assert world.products["shop"].spec.traffic.validate_ is not None
    assert "shop-free" in world.plans
    Catalogue.of(world)
    again = run(shop, "--write", out)
    assert again.exit_code == 1
    assert "there already" in str(again.exception)


def test_it_prints_yaml_and_notes_apart(shop: Path):
    done = run(shop, "--plan", "gold", "--service", "shop")
    [product] = yaml.safe_load_all(done.stdout)
    assert product["spec"]["plans"] == ["gold"]
    assert "note: " in done.stderr
    assert "&id" not in done.stdout


def test_json_documents_are_read_too(tmp_path: Path):
    path = tmp_path / "shop.json"
    path.write_text(json.dumps(DOCUMENT, indent=1))
    assert run(path).exit_code == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (SHOP.replace("3.0.3", "2.0"), ":1: openapi '2.0', expected a version like"),
        (SHOP.replace("/status", "/st atus"), ":27: segment 'st atus', expected text"),
        ("a: [", "no YAML"),
        ("a: 1\n---\nb: 1\n", "2 documents, expected one"),
        ("- 1", "no mapping, expected one"),
        ("x" * ((1 << 20) + 1), "expected at most 1048576"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(
    text: str, problem: str, tmp_path: Path
):
    path = tmp_path / "api.yaml"
    path.write_text(text)
    done = run(path)
    assert isinstance(done.exception, ConfigError)
    assert problem in str(done.exception)
    assert str(done.exception).startswith(str(path))


def test_options_that_go_against_each_other_are_refused(shop: Path):
    assert "expected one of them" in str(run(shop, "--service", "a", "--url", "http://b").exception)
    assert "expected one of them" in str(run(shop, "--apply", "--write", "x").exception)
    assert "No such file" in str(run(shop.parent / "none.yaml").exception)


def test_two_operations_of_one_name_do_not_share_it():
    paths = {f"/{n}": {"get": {"operationId": "same"}} for n in "ab"}
    routes = imported({**DOCUMENT, "paths": paths}, Wanted()).product["spec"]["routes"]
    assert [route.get("operation") for route in routes] == ["same", None]
    with pytest.raises(WrongDocument, match="name 'No Name'"):
        imported(DOCUMENT, Wanted(name="No Name"))
