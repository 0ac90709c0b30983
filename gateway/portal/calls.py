"""The form that a call is tried with, and where its outcome is shown."""

from collections.abc import Sequence

from gateway.portal.authentication import KeyPlace, key_place, methods_of
from gateway.portal.layout import choice, entry
from gateway.portal.markup import Child, Html, el
from gateway.portal.reference.operations import REST, Operation, Parameter
from wherry.model.product import ApiProduct


def hosts(product: ApiProduct) -> frozenset[str]:
    """Return the hosts that lead to a product's environments, wildcards left out."""
    return frozenset(
        host
        for environment in product.spec.environments
        for host in environment.hosts
        if "*" not in host
    )


def call_form(
    product: ApiProduct, found: Sequence[Operation], chosen: Operation, gateway_url: str
) -> Html:
    """Return the form for one operation, with a choice among all."""
    path = f"/products/{product.name}/try"
    key = key_place(methods_of(product.spec, chosen.method, chosen.path))
    options = [(each.id, f"{each.method} {each.path}") for each in found]
    choose = el(
        "form",
        choice("operation", "Operation", options, chosen.id, data_sends="change"),
        el("noscript", el("button", "Show", type="submit", class_="button secondary")),
        method="get",
        action=path,
        aria_label="Choose an operation",
    )
    call = el(
        "form",
        *_entries(product, chosen, key),
        el("button", "Send", type="submit", class_="button primary"),
        el("noscript", el("p", "Sending needs JavaScript; curl does not.")),
        id="try",
        data_action=path,
        data_method=chosen.method,
        data_path=chosen.path,
        data_gateway=gateway_url,
        data_key_kind=key.kind if key else None,
        data_key_name=key.name if key else None,
        data_media=chosen.body.media if chosen.body else "application/json",
        aria_label="The call",
    )
    return el(
        "div",
        el("section", choose, call, class_="card"),
        el("section", *_outcome(), class_="card", aria_label="Outcome"),
        class_="pair try",
    )


def _entries(product: ApiProduct, chosen: Operation, key: KeyPlace | None) -> list[Html]:
    made = []
    if key is not None:
        hint = "Stays in this tab; it is sent with the call only."
        made.append(
            entry(
                "try-key",
                "Your key",
                hint=hint,
                type="password",
                autocomplete="off",
                spellcheck="false",
                data_role="key",
            )
        )
    if known := sorted(hosts(product)):
        options = [("", "As the address says"), *((host, host) for host in known)]
        made.append(choice("try-host", "Host", options, data_role="host"))
    made += [
        _parameter(place, each)
        for place, each in enumerate(chosen.parameters)
        if each.where in {"path", "query", "header"}
    ]
    if chosen.body is not None:
        label = ("Body ", el("span", chosen.body.media, class_="muted"))
        made.append(_text("try-body", label, chosen.body.sample, role="body", rows=10))
    elif chosen.method in {"POST", "PUT", "PATCH"}:
        made.append(_text("try-body", ("Body",), "", role="body", rows=6))
    more = _text("try-more", ("One a line, like Accept: text/plain",), "", role="more", rows=3)
    made.append(el("details", el("summary", "More headers"), more, class_="more"))
    return made


def _parameter(place: int, parameter: Parameter) -> Html:
    needed = " (required)" if parameter.required else ""
    return entry(
        f"parameter-{place}",
        f"{parameter.name}{needed}",
        hint=parameter.about or None,
        value=parameter.sample,
        required=parameter.required,
        maxlength=2000,
        data_role=parameter.where,
        data_name=parameter.name,
        data_rest=parameter.kind == REST,
    )


def _text(name: str, label: Sequence[Child], value: str, *, role: str, rows: int) -> Html:
    return el(
        "div",
        el("label", *label, for_=name),
        el("textarea", value, id=name, data_role=role, rows=rows, spellcheck="false"),
        class_="entry",
    )


def _outcome() -> list[Html]:
    return [
        el("h2", "Request"),
        el("pre", el("code", id="curl"), tabindex=0, aria_label="curl command", role="region"),
        el(
            "p",
            el("button", "Copy curl", type="button", class_="button secondary", data_copy="curl"),
            el("span", role="status", id="copied", class_="hint"),
            class_="row",
        ),
        el("h2", "Answer"),
        el("p", "Nothing was sent yet.", id="verdict", role="status", class_="muted"),
        el(
            "details",
            el("summary", "Headers"),
            el("pre", el("code", id="answer-headers"), tabindex=0),
            id="answer-head",
            hidden=True,
        ),
        el(
            "pre",
            el("code", id="answer-body"),
            tabindex=0,
            id="answer-pre",
            hidden=True,
            role="region",
            aria_label="Answer body",
        ),
    ]
