"""Usage: against each quota as a line, and over time as columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import accumulate
from zoneinfo import ZoneInfo

from aiohttp import web

from gateway.limits.windows import Window
from gateway.portal import plot
from gateway.portal.accounts import Account
from gateway.portal.layout import choice, heading
from gateway.portal.markup import Html, el, joined
from gateway.portal.parts import Asked, Point, Step, Unwell
from gateway.portal.plot import Bar, Plot
from gateway.portal.site import Site, account_of, shown
from gateway.portal.timeline import Timeline, across, last_days, last_hours, window
from wherry.model.plan import Quota

_SPANS = {
    "day": ("Last 24 hours", 24),
    "month": ("Last 30 days", 30),
    "quarter": ("Last 90 days", 90),
}


def routes(site: Site) -> list[web.RouteDef]:
    """Return the routes of this concern."""
    return [web.get("/usage", partial(_usage, site))]


async def _usage(site: Site, request: web.Request) -> web.StreamResponse:
    account = account_of(request)
    names = [name for name in site.held(account) if name in site.world.products]
    wanted = request.query.get("product", "")
    product = wanted if wanted in names else (names[0] if names else None)
    span = request.query.get("span", "month")
    span = span if span in _SPANS else "month"
    head = heading("Usage", "What you used, and how much of your quota is left.")
    if product is None:
        link = el("a", "See the products", href="/")
        empty = el("p", "Subscribe to a product first. ", link, class_="empty")
        return shown(site, request, ("Usage", "/usage"), head, empty)
    try:
        plots = await _plots(site, account, product, span)
    except Unwell as error:
        plots = el("p", str(error), class_="fault", role="alert")
    choose = _choose(site, names, product, span)
    return shown(site, request, ("Usage", "/usage"), head, choose, plots)


@dataclass(frozen=True, slots=True)
class _Asking:
    """Whose usage is plotted, and where their days begin."""

    site: Site
    consumer: str
    product: str
    zone: ZoneInfo
    now_ns: int

    async def used(self, meter: str, within: Window) -> int:
        asked = self._asked(meter, within.begins, within.ends, "minute")
        return await self.site.parts.used(asked)

    async def series(self, meter: str, over: Timeline) -> Sequence[Point]:
        asked = self._asked(meter, over.begins[0], over.ends, over.grain)
        return await self.site.parts.series(asked)

    def _asked(self, meter: str, begins_ns: int, ends_ns: int, step: Step) -> Asked:
        return Asked(self.consumer, self.product, meter, begins_ns, ends_ns, step)


async def _plots(site: Site, account: Account, product: str, span: str) -> Html:
    consumer = site.consumer(account)
    zone = ZoneInfo("UTC" if consumer is None else consumer.spec.timezone)
    asking = _Asking(site, account.consumer, product, zone, site.clock.unix_ns())
    held = site.held(account)[product]
    plan = site.world.plans.get(held.plan)
    quotas = [] if plan is None else plan.spec.quotas
    drawn = [await _against(asking, quota, held.begins) for quota in quotas]
    if plan is not None and not quotas:
        drawn.append(el("p", "Your plan has no quota.", class_="muted"))
    meters = dict.fromkeys(["requests", *(quota.meter for quota in quotas)])
    drawn += [await _over_time(asking, meter, span) for meter in meters]
    return joined(drawn)


async def _against(asking: _Asking, quota: Quota, begins: str | None) -> Html:
    now = window(quota, asking.zone, asking.now_ns, begins)
    line = across(now, asking.zone)
    used = await asking.used(quota.meter, now)
    sums = list(accumulate(line.sums(await asking.series(quota.meter, line))))
    happened = line.happened(asking.now_ns)
    sums[happened - 1 :] = [used] * (len(sums) - happened + 1)
    meter = quota.meter.replace("_", " ")
    share = f"{used / quota.limit:.0%}" if quota.limit else "nothing is allowed"
    whose = {"product": "", "operation": "; each operation counts by itself", "all": ""}
    about = (
        f"{used:,} of {quota.limit:,} {meter} used, {share}{whose[quota.per]}. "
        f"The count begins anew on {_when(now.ends, asking.zone)}."
    )
    bars = [Bar(label, amount) for label, amount in zip(line.labels(), sums, strict=True)]
    title = f"Quota: {meter} in this {quota.window if quota.every is None else quota.every}"
    return plot.line(Plot(f"quota-{quota.name}", title, about, meter, bars, quota.limit, happened))


async def _over_time(asking: _Asking, meter: str, span: str) -> Html:
    title, count = _SPANS[span]
    last = last_hours if span == "day" else last_days
    over = last(count, asking.now_ns, asking.zone)
    amounts = over.sums(await asking.series(meter, over))
    name = meter.replace("_", " ")
    step = "day" if over.daily else "hour"
    about = f"{sum(amounts):,} in all; at most {max(amounts):,} in one {step}."
    bars = [Bar(label, amount) for label, amount in zip(over.labels(), amounts, strict=True)]
    named = f"{name.capitalize()}, {title.lower()}"
    return plot.columns(Plot(f"over-{meter}", named, about, name, bars))


def _when(unix_ns: int, zone: ZoneInfo) -> str:
    return f"{datetime.fromtimestamp(unix_ns // 10**9, zone):%d %B %Y, %H:%M}".lstrip("0")


def _choose(site: Site, names: Sequence[str], product: str, span: str) -> Html:
    products = [(name, site.world.products[name].spec.title or name) for name in names]
    spans = [(key, title) for key, (title, _) in _SPANS.items()]
    return el(
        "form",
        choice("product", "Product", products, product),
        choice("span", "Time", spans, span),
        el("button", "Show", type="submit", class_="button secondary"),
        method="get",
        action="/usage",
        class_="inline card",
        aria_label="What to show",
    )
