"""Tables of routes by host name in which a change of one host sends that host alone.

Envoy builds a whole route configuration again at any change of it: 150 ms for 3000 hosts. Here
each host has one of its own, and a scope says which: its key is the name of the table and the
host name. A listener writes both, as ``TABLE:AUTHORITY``, into a header that nobody else sees;
a port follows a second colon and does not matter, nor does the case of a host name.

A host name without a scope meets no route. A wildcard cannot be a scope.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/scoped_route.proto
"""

from functools import cache, lru_cache

from envoy_data_plane.envoy.config.core.v3 import DataSource, TypedExtensionConfig
from envoy_data_plane.envoy.config.route.v3 import (
    ScopedRouteConfiguration,
    ScopedRouteConfigurationKey,
    ScopedRouteConfigurationKeyFragment,
)
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.filters.common.matcher.action.v3 import SkipFilter
from envoy_data_plane.envoy.extensions.filters.http.lua.v3 import Lua
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
    ScopedRds,
    ScopedRoutes,
    ScopedRoutesScopeKeyBuilder,
    ScopedRoutesScopeKeyBuilderFragmentBuilder,
    ScopedRoutesScopeKeyBuilderFragmentBuilderHeaderValueExtractor,
)
from envoy_data_plane.envoy.type.matcher.v3 import HttpRequestHeaderMatchInput
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig as Extension
from envoy_data_plane.xds.type.matcher.v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherMatcherListPredicate,
    MatcherMatcherListPredicateSinglePredicate,
    MatcherOnMatch,
    RegexMatcher,
    RegexMatcherGoogleRe2,
    StringMatcher,
)

from xds.builders.messages import SCOPE_HEADER, Source, assembled, from_ads, packed
from xds.encode import encode
from xds.resource import ROUTE, SCOPED_ROUTE, Resource

_SEPARATOR = ":"


@lru_cache(maxsize=1 << 14)
def scope(table: str, host: str, routes: str, source: Source) -> Resource:
    """Return what leads requests for ``host``, on listeners of ``table``, to ``routes``.

    Args:
        table: Its name, in lower case.
        host: A host name in lower case, no wildcard.
        routes: Name of a route configuration.
        source: What it was made from.
    """
    name = f"{table}/{host}"
    parts = [
        assembled(ScopedRouteConfigurationKeyFragment, string_key=part) for part in (table, host)
    ]
    body = assembled(
        ScopedRouteConfiguration,
        name=name,
        route_configuration_name=routes,
        key=assembled(ScopedRouteConfigurationKey, fragments=parts),
    )
    refs = frozenset({(ROUTE, routes)})
    return Resource(SCOPED_ROUTE, name, body, refs, sources=frozenset({source}))


def key_of_requests(table: str) -> str:
    """Return the value of `SCOPE_HEADER` on listeners of ``table``, in Envoy's format."""
    return f"{table}{_SEPARATOR}%REQ(:authority)%"


@cache
def by_scope() -> bytes:
    """Return the part of a connection manager that says to look for routes by scope."""
    parts = [
        ScopedRoutesScopeKeyBuilderFragmentBuilder(
            header_value_extractor=ScopedRoutesScopeKeyBuilderFragmentBuilderHeaderValueExtractor(
                name=SCOPE_HEADER, element_separator=_SEPARATOR, index=place
            )
        )
        for place in (0, 1)
    ]
    found = ScopedRoutes(
        name="wherry",
        scope_key_builder=ScopedRoutesScopeKeyBuilder(fragments=parts),
        rds_config_source=from_ads(),
        scoped_rds=ScopedRds(scoped_rds_config_source=from_ads()),
    )
    return assembled(HttpConnectionManager, scoped_routes=encode(found))


_LOWER = f"""\
function envoy_on_request(request)
  local headers = request:headers()
  headers:replace("{SCOPE_HEADER}", string.lower(headers:get("{SCOPE_HEADER}")))
  request:clearRouteCache()
end
"""


def in_lower_case() -> HttpFilter:
    """Return what finds the scope of a host name that is written with capitals.

    Other requests skip it.
    """
    plain = StringMatcher(safe_regex=RegexMatcher(RegexMatcherGoogleRe2(), regex="[^A-Z]*"))
    header = packed(HttpRequestHeaderMatchInput(header_name=SCOPE_HEADER))
    asked = MatcherMatcherListPredicateSinglePredicate(
        input=Extension(name="scope", typed_config=header), value_match=plain
    )
    skip = MatcherOnMatch(action=Extension(name="skip", typed_config=packed(SkipFilter())))
    skipped = MatcherMatcherListFieldMatcher(
        predicate=MatcherMatcherListPredicate(single_predicate=asked), on_match=skip
    )
    script = Lua(default_source_code=DataSource(inline_string=_LOWER))
    filtered = ExtensionWithMatcher(
        xds_matcher=Matcher(matcher_list=MatcherMatcherList(matchers=[skipped])),
        extension_config=TypedExtensionConfig(
            name="envoy.filters.http.lua", typed_config=packed(script)
        ),
    )
    return HttpFilter(name="wherry.lower_case", typed_config=packed(filtered))
