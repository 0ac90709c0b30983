"""Receipt handles: a message's id and what tells one receive of it from another. Pure."""

import base64
import binascii

from faas.queues.faults import ReceiptHandleIsInvalid
from faas.queues.message import Message


def handle_of(message: Message) -> str:
    """Return the handle of a message's last receive."""
    return base64.urlsafe_b64encode(f"{message.id}/{message.receipt}".encode()).decode()


def opened(handle: str) -> tuple[str, str]:
    """Return the message's id and the receipt in a handle.

    Raises:
        ReceiptHandleIsInvalid: It is none of ours.
    """
    try:
        name, slash, receipt = base64.urlsafe_b64decode(handle.encode()).decode().partition("/")
    except (binascii.Error, ValueError):
        slash = name = receipt = ""
    if not slash:
        raise ReceiptHandleIsInvalid("The input receipt handle is invalid.")
    return name, receipt
