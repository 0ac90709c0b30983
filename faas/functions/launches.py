"""What VMs need to run versions of functions."""

from collections.abc import Callable
from pathlib import Path

from faas.code.package import root_of
from faas.functions.served import served
from faas.lambda_errors import InvalidParameter, KmsRefused
from faas.model.function import LATEST, Function
from faas.oci.documents import ImageError
from faas.oci.images import container
from faas.vm import Container, Launch

_KEPT = 256
"""Containers of revisions that are kept in memory."""


class Launches:
    """Makes launches.

    Args:
        code_dir: Where packages, layers and images are unpacked.
        init_timeout: Seconds that a function's own initialisation may take.
        egress: Returns the unix socket of a function's way out, or None for none.
    """

    def __init__(
        self, code_dir: Path, init_timeout: float, egress: Callable[[str], Path | None]
    ) -> None:
        self._code_dir = code_dir
        self._init_timeout = init_timeout
        self._egress = egress
        self._containers: dict[str, Container] = {}

    def of(self, function: Function, *, provisioned: bool = False) -> Launch:
        """Return how a version is to be run.

        Args:
            function: The version.
            provisioned: Whether its instances are kept ready.

        Raises:
            KmsRefused: The function's variables cannot be read.
            InvalidParameter: Its container image cannot be run.
        """
        if function.sealed:
            raise KmsRefused(function.qualified_arn)
        snapped = function.snap_start != "None" and function.version != LATEST
        initialization = "snap-start" if snapped else "on-demand"
        return Launch(
            function=function.name,
            version=function.version,
            arn=function.qualified_arn,
            code=root_of(self._code_dir, function.digest),
            digest=function.digest,
            handler=function.handler,
            runtime=served(function.runtime) or function.runtime,
            memory_mib=function.memory_mib,
            timeout=float(function.timeout),
            init_timeout=self._init_timeout,
            environment=function.environment,
            egress=self._egress(function.name),
            layers=tuple(root_of(self._code_dir, use.digest) for use in function.layers),
            tmp_mib=function.tmp_mib,
            container=self._container(function),
            json_logs=function.logging.format == "JSON",
            log_level=function.logging.application_level,
            initialization="provisioned-concurrency" if provisioned else initialization,
        )

    def _container(self, function: Function) -> Container | None:
        if function.package_type != "Image":
            return None
        found = self._containers.get(function.revision)
        if found is None:
            try:
                found = container(self._code_dir, function)
            except ImageError as error:
                raise InvalidParameter(str(error)) from error
            self._containers[function.revision] = found
            if len(self._containers) > _KEPT:
                del self._containers[next(iter(self._containers))]
        return found
