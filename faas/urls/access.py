"""Who may use a function URL. Pure."""

from collections.abc import Sequence

from faas.functions.permission import allows
from faas.lambda_errors import AccessDenied
from faas.model.policy import Statement
from faas.model.url import FunctionUrl

ACTION = "lambda:InvokeFunctionUrl"
_AUTH = "lambda:FunctionUrlAuthType"


def refuse_outsiders(url: FunctionUrl, statements: Sequence[Statement], caller: str) -> None:
    """Do nothing when ``caller`` may use ``url``.

    Whoever signed has a key of this account, and such may use what no statement denies; nobody
    in particular needs a statement that allows it to everybody.

    Args:
        url: What is used.
        statements: Of the policy about its function.
        caller: ARN of who signed; empty: nobody in particular.

    Raises:
        AccessDenied: Not allowed, or denied.
    """
    if url.auth == "AWS_IAM" and not caller:
        raise AccessDenied("Forbidden")
    own: Statement = {"Effect": "Allow", "Principal": {"AWS": caller}, "Action": ACTION}
    counted = [*statements, own] if url.auth == "AWS_IAM" else statements
    if not allows(counted, ACTION, caller, {_AUTH: url.auth}):
        raise AccessDenied("Forbidden")
