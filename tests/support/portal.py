"""A portal in front of a real gateway, with the catalogue, the keys, the meters and the bills."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway import app as gateway_app
from gateway.billing.closing import Closer
from gateway.billing.observer import observe
from gateway.billing.source import Metered
from gateway.metering.batch import encoded
from gateway.pepper import pepper
from gateway.portal import app as portal_app
from gateway.portal.backing import parts
from gateway.usage import LOG, Usage
from wherry.clock import SystemClock
from wherry.config import load
from wherry.config.watch import Worlds
from wherry.resources import Resources
from wherry.resources.follow import follow
from wherry.serve import Address
from wherry.store import Store
from wherry.store.memory import MemoryStore

DAY = 86_400 * 10**9

SHOP = """\
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: bookshop}
spec:
  title: Bookshop
  version: "2.1"
  description: |
    Books, orders, and a word of advice.

    Every call needs a key in `x-api-key`.
  plans: [free, growth, partner]
  openapi: bookshop.yaml
  scopes: {orders: Place orders}
  routes:
  - path: /books
    methods: [GET]
    operation: listBooks
    to: {mock: {status: 200, json:
                {books: [{id: 1, title: The Left Hand of Darkness}]}}}
  - path: "/books/{id}"
    methods: [GET]
    operation: readBook
    to: {mock: {status: 200, json:
                {id: 1, title: The Left Hand of Darkness}}}
  - path: /orders
    methods: [POST]
    operation: placeOrder
    cost: 5
    to: {mock: {status: 201, json: {order: 7}}}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: weather}
spec:
  title: Weather
  description: What the sky will do, for any place on earth, hour by hour.
  plans: [free]
  routes: [{path: "/weather/{place}", methods: [GET], to: {mock: {status: 204}}}]
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: backstage}
spec:
  title: Backstage
  public: false
  plans: [partner]
  routes: [{path: /backstage, to: {mock: {status: 204}}}]
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: free}
spec:
  title: Free
  description: For trying things out.
  rate: {requests: 60, per: 1m}
  quotas: [{name: month, limit: 1000, window: month}]
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: growth}
spec:
  title: Growth
  description: For shops of their own.
  rate: {requests: 100, per: 1s}
  quotas: [{name: month, limit: 20000, window: month}]
  price:
    currency: EUR
    recurring: {amount: "19.00"}
    usage: [{model: perUnit, included: 1000, unit: "0.002"}]
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: partner}
spec: {title: Partner, description: For those who sell with us., approval: true}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: acme}
spec:
  title: Acme
  subscriptions: [{product: bookshop, plan: free}]
"""

BOOKS = """\
openapi: 3.1.0
info: {title: Bookshop, version: "2.1"}
paths:
  /books:
    get:
      operationId: listBooks
      summary: List books
      description: "The newest come first. Say `limit` to get fewer."
      tags: [Books]
      parameters:
      - {name: limit, in: query, description: At most so many., example: 10,
         schema: {type: integer, minimum: 1, maximum: 100}}
      - {name: author, in: query, description: Only of them., schema: {type: string}}
      responses:
        "200":
          description: The books.
          content:
            application/json:
              schema:
                type: object
                required: [books]
                properties:
                  books: {type: array, items: {$ref: "#/components/schemas/Book"}}
        "429": {description: Too many calls.}
  /books/{id}:
    get:
      operationId: readBook
      summary: Read one book
      tags: [Books]
      parameters: [{$ref: "#/components/parameters/Id"}]
      responses:
        "200":
          description: The book.
          content: {application/json: {schema: {$ref: "#/components/schemas/Book"}}}
        "404": {description: There is no such book.}
  /orders:
    post:
      operationId: placeOrder
      summary: Place an order
      description: Counts as five requests.
      tags: [Orders]
      requestBody:
        content:
          application/json:
            schema:
              type: object
              required: [book, copies]
              properties:
                book: {type: integer, description: Its id., examples: [1]}
                copies: {type: integer, minimum: 1, maximum: 99, default: 1}
                gift: {$ref: "#/components/schemas/Gift"}
      responses:
        "201": {description: The order stands.}
  /catalogue:
    delete:
      operationId: dropCatalogue
      summary: Drop the catalogue
      deprecated: true
      tags: [Orders]
      responses: {"410": {description: Not any more.}}
components:
  parameters:
    Id: {name: id, in: path, required: true, description: Of the book.,
         schema: {type: integer, example: 1}}
  schemas:
    Book:
      type: object
      required: [id, title]
      properties:
        id: {type: integer, examples: [1]}
        title: {type: string, maxLength: 200, examples: [The Left Hand of Darkness]}
        language: {type: string, enum: [en, de, fr]}
        follows: {$ref: "#/components/schemas/Book"}
    Gift:
      type: object
      properties:
        wrap: {type: boolean}
        message: {type: string, maxLength: 500}
"""


class Moved(SystemClock):
    """The host's clock, so many nanoseconds away."""

    away_ns = 0

    def unix_ns(self) -> int:
        return super().unix_ns() + self.away_ns


@dataclass
class Shop:
    """A portal and what is behind it."""

    url: str
    gateway_url: str
    store: Store
    worlds: Worlds
    resources: Resources
    clock: Moved

    async def observe(self) -> None:
        """Let billing learn who subscribed to what."""
        await observe(self.store, self.worlds.current, self.clock)

    async def close(self, consumer: str) -> None:
        """Close the next month of a consumer, which is over."""
        await Closer(self.store, Metered(self.store), self.clock).close(consumer)

    async def use(self, consumer: str, *, days: int, plan: str = "growth") -> int:
        """Write usage of the last days to the log, as the gateway would have; return the units."""
        now, total = self.clock.unix_ns(), 0
        uses = []
        for day in range(days):
            for n in range(24):
                at = now - day * DAY - n * DAY // 24
                if datetime.fromtimestamp(at / 1e9, UTC).weekday() > 4 and n % 3:
                    continue
                amount = 2 + (day * 31 + n * 17) % 38
                total += amount
                name = f"seed-{at}"
                uses.append(
                    Usage(name, at, consumer, "default", "bookshop", "listBooks", plan, "", 200,
                          {"requests": amount})
                )  # fmt: skip
        bodies = [(f"seed-{n}", body) for n, body in enumerate(encoded(uses))]
        await self.store.append(LOG, bodies)
        return total

    async def subscribed(self, consumer: str) -> None:
        """Wait until the configuration has a subscription of theirs."""
        async with asyncio.timeout(10):
            async for world in self.worlds.follow():
                if any(s.spec.consumer == consumer for s in world.subscriptions.values()):
                    return


@asynccontextmanager
async def shop(
    folder: Path, *, store: Store | None = None, more: str = "", **settings: int
) -> AsyncIterator[Shop]:
    """Run a portal and a gateway over one store, and the configuration that both follow."""
    source = folder / "source"
    source.mkdir()
    (source / "api").mkdir()
    (source / "shop.yaml").write_text(SHOP.replace("bookshop.yaml", "api/bookshop.yaml") + more)
    (source / "api" / "bookshop.yaml").write_text(BOOKS)
    store, clock = store or MemoryStore(), Moved()
    worlds, resources = Worlds(load(source)), Resources(store, source)
    secret = folder / "pepper"
    gateway_settings = gateway_app.Settings(pepper=secret, address=Address())
    portal_settings = portal_app.Settings(pepper=secret, address=Address(), **settings)
    async with (
        asyncio.TaskGroup() as group,
        gateway_app.running(gateway_settings, store=store, worlds=worlds, clock=clock) as gateway,
    ):
        following = group.create_task(follow(store, source, worlds), name="follow")
        behind = parts(
            store=store, worlds=worlds, resources=resources, pepper=pepper(secret), clock=clock
        )
        async with portal_app.running(
            portal_settings,
            store=store,
            worlds=worlds,
            parts=behind,
            gateway_url=gateway.address.url,
            clock=clock,
        ) as address:
            yield Shop(address.url, gateway.address.url, store, worlds, resources, clock)
        following.cancel()
