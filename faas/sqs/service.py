"""SQS as one of the services of the API's endpoint."""

from dataclasses import replace
from functools import cache

from faas.api.model import ServiceModel
from faas.api.server import Service
from faas.api.services import service
from faas.queues.service import Queues
from faas.sqs.messages import LIMITS, MessageOperations
from faas.sqs.queues import QueueOperations


def sqs(queues: Queues, *, account: str) -> Service:
    """Return the SQS API of ``queues``, told from others by ``X-Amz-Target: AmazonSQS.…``."""
    operations = {
        **QueueOperations(queues, account).operations(),
        **MessageOperations(queues).operations(),
    }
    return Service(_model(), operations, LIMITS)


@cache
def _model() -> ServiceModel:
    """Return the model without its lists of names: SQS has errors of its own for unknown ones.

    It also takes names of messages' attributes where the model lists those of queues.
    """
    model = service("sqs")
    shapes = {name: replace(shape, enum=()) for name, shape in model.shapes.items()}
    return replace(model, shapes=shapes)
