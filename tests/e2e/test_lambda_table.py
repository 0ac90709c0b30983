"""docs/lambda.md says what is served."""

from pathlib import Path

import pytest

from faas.api.services import service
from faas.api.table import registered, rewritten, table

pytestmark = pytest.mark.e2e

DOCUMENT = Path(__file__).parents[2] / "docs" / "lambda.md"


async def test_the_table_is_of_the_operations_that_are_registered():
    found = table(service("lambda"), await registered())
    assert DOCUMENT.read_text() == rewritten(DOCUMENT.read_text(), found), (
        "run python -m faas.api.table docs/lambda.md"
    )


async def test_everything_registered_is_in_the_model():
    assert await registered() <= service("lambda").operations.keys()


def test_every_operation_that_is_not_served_has_a_reason():
    assert "not yet" not in DOCUMENT.read_text()
