"""An API of ours keeps what its OpenAPI document promises, whatever schemathesis sends."""

from collections.abc import Mapping

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi_checks

EXAMPLES = 10
"""For each operation and each kind of input."""

CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.negative_data_rejection,
    openapi_checks.ignored_auth,
    openapi_checks.unsupported_method,
]


def keeps_promises(
    url: str,
    headers: Mapping[str, str],
    path: str,
    method: str,
    mode: GenerationMode,
    known: Mapping[str, str] | None = None,
) -> None:
    """Call one operation again and again.

    Args:
        url: Of the API; its document is at ``/openapi.json``.
        headers: That say who calls.
        path: Of the operation.
        method: In lower case.
        mode: Whether what is sent is valid.
        known: Parameters of the path that lead to something that exists, sent with what is valid.
    """
    operation = schemathesis.openapi.from_url(f"{url}/openapi.json")[path][method]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case):
        if known and mode is GenerationMode.POSITIVE:
            case.path_parameters = {**(case.path_parameters or {}), **known}
        case.call_and_validate(headers=headers, checks=CHECKS)

    holds()
