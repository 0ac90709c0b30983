"""Every operation that is about records and not about code or calls."""

from collections.abc import Callable, Mapping

from faas.api.asked import Operation
from faas.code.origin import Code
from faas.functions.layers import Layers
from faas.functions.registry import Registry
from faas.operations.account import AccountOperations
from faas.operations.concurrency import Account, Capacity, ConcurrencyOperations
from faas.operations.destinations import Destinations
from faas.operations.event_invoke import EventInvokeOperations
from faas.operations.fixed import FixedOperations
from faas.operations.layers import LayerOperations
from faas.operations.mappings import MappingOperations
from faas.operations.permissions import PermissionOperations
from faas.operations.recursion import RecursionOperations
from faas.operations.tags import TagOperations
from faas.operations.url_configs import UrlOperations
from wherry.clock import Clock


def record_operations(
    registry: Registry,
    capacity: Capacity,
    code: Code,
    clock: Clock,
    *,
    address: Callable[[str], str],
    concurrency: int = 1000,
) -> Mapping[str, Operation]:
    """Return layers, permissions, concurrency, destinations, mappings, URLs, tags and settings.

    Args:
        registry: Where functions and all that belongs to them are kept.
        capacity: Those who run instances.
        code: Where packages come from.
        clock: For the time of changes.
        address: Returns the URL of the function URL with that id.
        concurrency: See `Account`.
    """
    account = Account(registry, concurrency)
    destinations = Destinations(registry)
    layers = Layers(registry.store, registry.code_dir, registry.place, clock)
    return {
        **LayerOperations(layers, code, registry.store).operations(),
        **PermissionOperations(registry, registry.store).operations(),
        **ConcurrencyOperations(registry, account, capacity, clock).operations(),
        **EventInvokeOperations(registry, destinations, clock).operations(),
        **MappingOperations(registry, destinations, clock).operations(),
        **UrlOperations(registry, clock, address).operations(),
        **TagOperations(registry).operations(),
        **AccountOperations(registry, account).operations(),
        **RecursionOperations(registry).operations(),
        **FixedOperations(registry).operations(),
    }
