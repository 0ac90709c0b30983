"""Between the check service, the access logs and the gateway, which starts after both."""

from collections.abc import Sequence
from http import HTTPStatus

from gateway.sidecars import Sidecars
from policy.admission import Admitted, Rejected
from policy.engine import Check
from telemetry.edge import Entry


class Guards:
    """Passes on what concerns the products that sidecars enforce.

    Until the gateway is there, what they guard is refused with 503.

    Attributes:
        sidecars: The gateway's part; None: it is not there yet.
    """

    def __init__(self) -> None:
        self.sidecars: Sidecars | None = None

    async def admit(self, check: Check) -> Admitted | Rejected:
        """See `policy.admission.Admission`."""
        if self.sidecars is None:
            text = (
                '{"title": "Service Unavailable", "status": 503, "detail": "Wherry is starting."}'
            )
            headers = {"Content-Type": "application/problem+json", "Retry-After": "1"}
            return Rejected("", HTTPStatus.SERVICE_UNAVAILABLE, headers, text)
        return await self.sidecars.admit(check)

    def used(self, calls: Sequence[Entry]) -> None:
        """See `telemetry.ingest.Used`."""
        if self.sidecars is not None:
            self.sidecars.used(calls)
