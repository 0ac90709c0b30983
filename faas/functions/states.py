"""What states a function goes through, and what may be done in them. Pure."""

from dataclasses import replace

from faas.lambda_errors import ResourceConflict
from faas.model.function import Function, State, Update


def check_settled(function: Function) -> None:
    """Refuse a change while the one before is not done.

    Raises:
        ResourceConflict: The function is being created or updated.
    """
    cannot = "The operation cannot be performed at this time."
    if function.state is State.PENDING:
        raise ResourceConflict(
            f"{cannot} The function is currently in the following state: {function.state}"
        )
    if function.update is Update.IN_PROGRESS:
        raise ResourceConflict(f"{cannot} An update is in progress for resource: {function.arn}")


def settled(function: Function, failure: str = "", code: str = "") -> Function:
    """Return a function as it is when its creation or update is done.

    Args:
        function: As it was before.
        failure: Why it is not ready; empty: it is.
        code: Lambda's code for ``failure``; empty: the usual one.
    """
    first = function.state is State.PENDING
    return replace(
        function,
        state=State.FAILED if failure and first else State.ACTIVE,
        update=Update.FAILED if failure and not first else Update.SUCCESSFUL,
        reason=failure,
        reason_code=code or ("InternalError" if failure else ""),
    )
