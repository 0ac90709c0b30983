"""What every page of the portal stands on: who asks, what they may, and how they are answered."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote
from zoneinfo import ZoneInfo

from aiohttp import web

from gateway import cookies
from gateway.days import day_at
from gateway.portal.accounts import Account, Accounts
from gateway.portal.attempts import Attempts, SignIns
from gateway.portal.layout import Frame, page
from gateway.portal.markup import Child
from gateway.portal.parts import Parts
from gateway.portal.reference.document import Shelf
from gateway.portal.relay import Relay
from gateway.portal.sessions import LASTS, Session, Sessions
from gateway.portal.subscribed import Held, Index, held_on
from gateway.traffic.addresses import Networks, client
from wherry.clock import Clock
from wherry.config.watch import Worlds
from wherry.model.product import ApiProduct, Consumer
from wherry.model.world import World

SESSION_COOKIE, VISIT_COOKIE = cookies.SESSION, cookies.VISIT

MAX_FIELD = 4096
"""Most characters in a field of a form."""

SAID = {
    "welcome": "Welcome. Your account is ready: choose a product to begin.",
    "in": "You are signed in.",
    "out": "You are signed out.",
    "subscribed": "Subscribed. You can make a key now.",
    "pending": "Asked for. You can call the API once the plan is approved.",
    "ended": "The subscription has ended.",
    "revoked": "The key is revoked: calls with it are refused from now on.",
    "app": "The app is there: make a key for it.",
    "password": "Your password is changed; other browsers are signed out.",
}


@dataclass(frozen=True, slots=True)
class Visit:
    """Who asks.

    Attributes:
        cookie: What their forms are guarded by.
        account: Who is signed in; None is nobody.
        session: Theirs; None exactly when nobody is signed in.
        fresh: Whether the cookie is new and has to be sent.
    """

    cookie: str
    account: Account | None = None
    session: Session | None = None
    fresh: bool = False


VISIT = web.RequestKey("visit", Visit)


@dataclass(frozen=True, slots=True)
class Site:
    """The parts that pages use.

    Attributes:
        sign_ins: Failed ones.
        sign_ups: Sign-ups from each address.
        gateway_url: Where developers call the APIs; shown, and where calls are tried.
        secure: Whether browsers come by TLS, so that cookies go nowhere else.
    """

    worlds: Worlds
    parts: Parts
    accounts: Accounts
    sessions: Sessions
    shelf: Shelf
    relay: Relay
    index: Index
    clock: Clock
    sign_ins: SignIns
    sign_ups: Attempts
    gateway_url: str
    secure: bool

    @property
    def world(self) -> World:
        """The configuration as it stands."""
        return self.worlds.current

    def frame(self, request: web.Request, title: str, here: str = "") -> Frame:
        """Return what stands around a page for whoever asks."""
        visit = visit_of(request)
        name = None if visit.account is None else visit.account.title
        said = SAID.get(request.query.get("said", ""))
        return Frame(
            title, here, self.sessions.guard(visit.cookie), name, said, self._warned(visit)
        )

    def consumer(self, account: Account) -> Consumer | None:
        """Return the consumer that an account stands for, once the configuration has it."""
        return self.world.consumers.get(account.consumer)

    def peer(self, request: web.Request) -> str:
        """Return the address of whoever asks, as proxies that the gateway trusts report it."""
        set_so = self.world.api_gateways.get("default")
        trusted = Networks.of([] if set_so is None else set_so.spec.trusted_proxies)
        return client(request.remote or "", request.headers.getall("X-Forwarded-For", []), trusted)

    def today(self, consumer: Consumer | None) -> str:
        """Return the day that it is for a consumer, as ``YYYY-MM-DD``."""
        zone = ZoneInfo("UTC" if consumer is None else consumer.spec.timezone)
        return day_at(self.clock.unix_ns(), zone).isoformat()

    def held(self, account: Account) -> Mapping[str, Held]:
        """Return what an account is subscribed to today, by product."""
        found = self.index.of(self.world, account.consumer)
        return held_on(found, self.today(self.consumer(account)))

    def product(self, request: web.Request) -> ApiProduct:
        """Return the public product that the path names.

        Raises:
            HTTPNotFound: There is none of that name that whoever asks may see.
        """
        found = self.world.products.get(request.match_info["product"])
        if found is None or not (found.spec.public or self._has(request, found.name)):
            raise web.HTTPNotFound(text="There is no such product.")
        return found

    def _warned(self, visit: Visit) -> str | None:
        consumer = None if visit.account is None else self.consumer(visit.account)
        if consumer is not None and consumer.spec.blocked:
            return "This account is blocked: every call is refused. Ask the operator."
        return None

    def _has(self, request: web.Request, product: str) -> bool:
        account = visit_of(request).account
        return account is not None and any(
            each.product == product for each in self.index.of(self.world, account.consumer)
        )


def visit_of(request: web.Request) -> Visit:
    """Return who asks."""
    return request[VISIT]


def account_of(request: web.Request) -> Account:
    """Return who is signed in.

    Raises:
        HTTPSeeOther: Nobody is: to the sign-in page, and then back.
    """
    account = visit_of(request).account
    if account is None:
        back = quote(request.rel_url.path_qs, safe="") if request.method == "GET" else ""
        raise web.HTTPSeeOther(f"/sign-in?next={back}" if back else "/sign-in")
    return account


def html(text: str, *, status: int = 200) -> web.Response:
    """Return a page that no cache keeps."""
    return web.Response(text=text, content_type="text/html", status=status)


def to(path: str, said: str | None = None) -> web.Response:
    """Return the answer to a form that did what it should: go on to ``path``."""
    joint = "&" if "?" in path else "?"
    place = f"{path}{joint}said={said}" if said else path
    return web.Response(status=303, headers={"Location": place})


async def fields(request: web.Request) -> Mapping[str, str]:
    """Read a form; of a name that comes twice, the last counts.

    Raises:
        HTTPUnsupportedMediaType: It is no form in a URL's spelling.
        HTTPBadRequest: It is no UTF-8, or a field is too long or holds control characters.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise web.HTTPUnsupportedMediaType(text="This is no form.")
    try:
        text = (await request.read()).decode()
        found = dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=64))
    except ValueError:
        raise web.HTTPBadRequest(text="The form cannot be read.") from None
    for value in found.values():
        if len(value) > MAX_FIELD:
            raise web.HTTPBadRequest(text=f"A field is over {MAX_FIELD} characters.")
        if any(ord(letter) < 32 for letter in value):  # noqa: PLR2004
            raise web.HTTPBadRequest(text="A field holds control characters.")
    return found


def set_cookie(site: Site, answer: web.StreamResponse, name: str, value: str) -> None:
    """Let the browser keep a cookie that scripts cannot read and other sites cannot send."""
    answer.set_cookie(
        name, value, max_age=LASTS, path="/", httponly=True, samesite="Strict", secure=site.secure
    )


def shown(
    site: Site, request: web.Request, titled: tuple[str, str], *content: Child
) -> web.Response:
    """Return a page; ``titled`` is its title and its entry in the menu."""
    return html(page(site.frame(request, *titled), *content))


def new_name(title: str) -> str:
    """Return a name for the consumer ``title``: no one else's, and nothing that could be guessed.

    It never is the name of a consumer in a file: who signs up must not become them.
    """
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in title.lower())
    words = "-".join(word for word in plain.split("-") if word)[:32].strip("-")
    letters = "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(6))
    return f"{words or 'developer'}-{letters}"
