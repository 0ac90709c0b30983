"""A page for people who open the admin API in a browser: what it can be asked."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from gateway.admin.endpoint import Endpoint

_STYLE = """
:root{color-scheme:light dark;--ink:#1d2430;--dim:#5a6472;--page:#fbfbf9;--line:#dcdfe4;
--mark:#0b6478}
@media (prefers-color-scheme:dark){:root{--ink:#e7eaee;--dim:#a3adba;--page:#14181e;
--line:#333b46;--mark:#6cc7d9}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);
max-width:60rem;margin:0 auto;padding:2rem 1.25rem}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}
p{color:var(--dim);max-width:44rem}a{color:var(--mark)}
table{border-collapse:collapse;width:100%;table-layout:fixed}
th:nth-child(1){width:24rem}th:nth-child(3){width:5rem}td:last-child{color:var(--dim)}
th,td{text-align:left;padding:.4rem .75rem .4rem 0;border-top:1px solid var(--line);
vertical-align:baseline}
th{color:var(--dim);font-weight:500;font-size:.875rem;border-top:0}
code{font:.875rem/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
.verb{color:var(--mark);font-weight:600}
@media (max-width:40rem){thead{position:absolute;left:-999rem}tr{display:block;
border-top:1px solid var(--line);padding:.5rem 0}td{display:block;border:0;padding:0}}
"""

_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content-Security-Policy of the page: its own style, and nothing else."""


def page(endpoints: Sequence[Endpoint]) -> str:
    """Return the page, as HTML."""
    by_tag: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        tags = endpoint.operation.get("tags")
        tag = str(tags[0]) if isinstance(tags, Sequence) and tags else "other"
        by_tag.setdefault(tag, []).append(endpoint)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Wherry admin API</title><style>{_STYLE}</style></head><body><main>"
        "<h1>Wherry admin API</h1>"
        "<p>Each request carries <code>Authorization: Bearer TOKEN</code>. The owner's token is in "
        "the file <code>admin-token</code> of the state folder; more are made with "
        "<code>wherry admin token create NAME --role viewer|editor|owner</code>. "
        'Programs read <a href="/openapi.json">the OpenAPI document</a>.</p>'
        + "".join(_section(tag, each) for tag, each in by_tag.items())
        + "</main></body></html>\n"
    )


def _section(tag: str, endpoints: Sequence[Endpoint]) -> str:
    rows = "".join(_row(each) for each in endpoints)
    return (
        f"<h2>{escape(tag.capitalize())}</h2><table><thead><tr><th>Operation</th>"
        f"<th>What it does</th><th>Role</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(endpoint: Endpoint) -> str:
    operation: Mapping[str, object] = endpoint.operation
    summary = escape(str(operation.get("summary", "")))
    role = endpoint.role.name.lower() if endpoint.role else "anyone"
    return (
        f'<tr><td><code><span class="verb">{escape(endpoint.method)}</span> '
        f"{escape(endpoint.path)}</code></td><td>{summary}</td><td>{role}</td></tr>"
    )
