"""`World` to Envoy resources: pure, no module does I/O.

`compiler` is the way in: it keeps the `parts` of a World, the layers that many clients share
(`shares`) and what each is told alone (`own`).

Names that other parts read: a cluster is named like its service. The route configuration of calls
to a service is ``outbound/SERVICE``, and the scopes that lead to it are named by table and host:
``outbound/HOST``, for the API gateway ``outbound/gateway/HOST``; a function that says what it calls
has all its routes in ``outbound/fn/NAME``. A gateway's scopes and routes are
``gateway/NAME/PORT/HOST``, or in one piece ``gateway/NAME/PORT``. A workload's inbound routes are
``inbound/SERVICE/VERSION``.
"""
