"""Which runtime a function gets that asks for one."""

import pytest

from faas.code.build import PYTHON
from faas.functions.served import OFFERED, served


@pytest.mark.parametrize("asked", ["python3.6", "python3.11", "python3.14"])
def test_there_is_one_python(asked):
    assert served(asked) == f"python{PYTHON}"


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("nodejs18.x", "nodejs22.x"),
        ("nodejs20.x", "nodejs22.x"),
        ("nodejs22.x", "nodejs22.x"),
        ("nodejs24.x", "nodejs24.x"),
    ],
)
def test_node_is_never_older_than_asked_for(asked, given):
    assert served(asked) == given


@pytest.mark.parametrize("asked", ["provided", "provided.al2", "provided.al2023"])
def test_a_runtime_of_ones_own_is_what_it_is(asked):
    assert served(asked) == asked


@pytest.mark.parametrize(
    "asked",
    ["", "python2.7", "python3.5", "nodejs16.x", "nodejs99.x", "java21", "go1.x", "dotnet8"],
)
def test_other_runtimes_are_not_served(asked):
    assert served(asked) is None


def test_what_is_offered_is_named():
    assert {"nodejs20.x", "nodejs22.x", "provided.al2023"} <= set(OFFERED)
