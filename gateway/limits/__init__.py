"""Rate, spike arrest, quota and concurrency: four limits that each caller may have."""

from gateway.limits.allowance import Allowance
from gateway.limits.grant import Grant
from gateway.limits.limits import Limits

__all__ = ["Allowance", "Grant", "Limits"]
