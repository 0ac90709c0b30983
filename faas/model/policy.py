"""A resource-based policy: who else may use a function or a layer. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "function-policy/"
"""Records ``function-policy/FUNCTION/QUALIFIER``; `LATEST` stands for none."""
LAYER_PREFIX = "layer-policy/"
"""Records ``layer-policy/NAME/0000000001``."""
MAX_POLICY = 20_480
"""Most bytes in a policy. Source: Lambda quotas, "Function resource-based policy"."""

Statement = Mapping[str, Any]
"""One statement, in the words of IAM's policy language."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The statements about one resource.

    Attributes:
        revision: Changes with every update.
        statements: In the order in which they were added.
    """

    revision: str
    statements: tuple[dict[str, Any], ...] = ()

    def text(self) -> str:
        """Return the policy as the JSON that callers get."""
        return json.dumps(
            {"Version": "2012-10-17", "Id": "default", "Statement": list(self.statements)},
            separators=(",", ":"),
        )
