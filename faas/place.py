"""Where functions say that they live, and how callers may name them there. Pure."""

from dataclasses import dataclass

from faas.lambda_errors import AccessDenied, InvalidParameter, ResourceNotFound
from faas.model.function import NAME, Reference


@dataclass(frozen=True, slots=True)
class Place:
    """Where functions say that they live: nothing but the parts of their ARNs."""

    region: str = "us-east-1"
    account: str = "000000000000"

    def arn(self, name: str, qualifier: str = "") -> str:
        """Return the ARN of the function ``name``, or of a version or alias of it."""
        whole = self._lambda("function", name)
        return f"{whole}:{qualifier}" if qualifier else whole

    def layer_arn(self, name: str) -> str:
        """Return the ARN of the layer ``name``, without a version."""
        return self._lambda("layer", name)

    def mapping_arn(self, uuid: str) -> str:
        """Return the ARN of an event source mapping."""
        return self._lambda("event-source-mapping", uuid)

    def queue_arn(self, name: str) -> str:
        """Return the ARN of the queue ``name``."""
        return f"arn:aws:sqs:{self.region}:{self.account}:{name}"

    def reference(self, text: str, qualifier: str | None = None) -> Reference:
        """Return the function that ``text`` names here: a name, a partial ARN or an ARN.

        Args:
            text: What the caller wrote.
            qualifier: A qualifier given apart from the name.

        Raises:
            InvalidParameter: It is none of these, or the two qualifiers differ.
            ResourceNotFound: It is in another region.
            AccessDenied: It is in another account.
        """
        found = Reference.parse(text)
        if found is None:
            raise InvalidParameter(
                f"1 validation error detected: Value '{text[:140]}' at 'functionName' failed to "
                f"satisfy constraint: Member must satisfy regular expression pattern: "
                f"{NAME.pattern}, or be a function's ARN with at most one qualifier"
            )
        if found.qualified and qualifier and found.qualifier != qualifier:
            raise InvalidParameter(
                "The derived qualifier from the function name does not match the specified "
                "qualifier."
            )
        if found.region and found.region != self.region:
            raise ResourceNotFound(
                f"Functions from '{found.region}' are not reachable in this region "
                f"('{self.region}')"
            )
        if found.account and found.account != self.account:
            raise AccessDenied(
                f"Functions of account {found.account} are not reachable here, expected "
                f"{self.account}"
            )
        return Reference.parse(text, qualifier) or found

    def _lambda(self, kind: str, name: str) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account}:{kind}:{name}"
