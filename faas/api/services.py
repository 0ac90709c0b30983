"""The service models that come with botocore."""

from functools import cache

from botocore.loaders import Loader  # type: ignore[import-untyped]

from faas.api.model import ServiceModel


@cache
def service(name: str) -> ServiceModel:
    """Return the newest model of a service that botocore has, such as ``lambda`` or ``sqs``.

    Raises:
        botocore.exceptions.UnknownServiceError: There is none of that name.
    """
    return ServiceModel.of(name, Loader().load_service_model(name, "service-2"))
