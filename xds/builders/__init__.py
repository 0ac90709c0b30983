"""`World` to Envoy resources: pure functions, one module a kind of resource.

Names that other parts read: a cluster is named like its service; the outbound route
configuration is ``outbound``; a gateway's is ``gateway/NAME/PORT``; a workload's inbound one is
``inbound/SERVICE/VERSION``.
"""
