"""What the stages of a call are made of."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.authn.authenticator import Authenticator
from gateway.keyring import Keyring
from gateway.limits.limits import Limits
from gateway.passage import Passage
from gateway.recorder import Recorder
from gateway.treatment import Treatment


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one gateway.

    Attributes:
        keyring: Every key.
        authenticator: Who calls.
        stopped: Whether a consumer's credit for a product is used up.
        limits: How much they may.
        recorder: What they did.
        passage: To upstreams.
        treatment: To upstreams by way of the policies of a route.
    """

    keyring: Keyring
    authenticator: Authenticator
    stopped: Callable[[str, str], bool]
    limits: Limits
    recorder: Recorder
    passage: Passage
    treatment: Treatment
