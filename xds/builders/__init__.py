"""`World` to Envoy resources: pure, no module does I/O.

`compiler` is the way in: it keeps the `parts` of a World, the layers that many clients share
(`shares`) and what each is told alone (`own`).

Names that other parts read: a cluster is named like its service; the outbound route configuration
is ``outbound`` (of the egress's narrower members ``outbound/gateway`` and ``outbound/fn/NAME``); a
gateway's is ``gateway/NAME/PORT``; a workload's inbound one is ``inbound/SERVICE/VERSION``.
"""
