"""The table of a VM's life, and the values at its edge."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.backends.order import order
from faas.vm import NEXT, Crashed, IllegalMove, Launch, Move, VmState, step


def launch(**fields) -> Launch:
    return Launch(
        **{
            "function": "list",
            "version": "$LATEST",
            "arn": "arn",
            "code": Path("code"),
            "digest": "0" * 64,
            "handler": "app.handler",
            "runtime": "python3.11",
            "memory_mib": 128,
            "timeout": 3.0,
            "init_timeout": 10.0,
            "environment": {},
            "egress": None,
        }
        | fields
    )


def test_a_paused_vm_must_resume_before_it_takes_a_call():
    with pytest.raises(IllegalMove, match="vm v1: cannot call while paused"):
        step("v1", VmState.PAUSED, Move.CALL)


@pytest.mark.parametrize("state", VmState)
def test_any_vm_may_die(state):
    assert step("v1", state, Move.DIE) is VmState.GONE


@pytest.mark.parametrize("state", [VmState.SAVED, VmState.GONE])
@pytest.mark.parametrize("move", [m for m in Move if m is not Move.DIE])
def test_a_saved_or_dead_vm_can_do_nothing_but_die(state, move):
    with pytest.raises(IllegalMove):
        step("v1", state, move)


@given(st.lists(st.sampled_from(Move)))
def test_a_vm_takes_a_call_only_after_it_booted_and_while_none_runs(moves):
    state, running = VmState.BOOTING, False
    for move in moves:
        if (state, move) not in NEXT:
            continue
        if move is Move.CALL:
            assert not running
            running = True
        running = running and move not in (Move.RETURN, Move.DIE)
        state = step("v1", state, move)
    assert running == (state is VmState.BUSY)


@pytest.mark.parametrize("name", ["", "a" * 65, "a/b", "a b", "..", "é"])
def test_a_function_name_that_could_be_a_path_is_refused(name):
    with pytest.raises(ValueError, match="expected 1 to 64"):
        launch(function=name)


@pytest.mark.parametrize("memory_mib", [127, 10241])
def test_memory_outside_of_lambdas_range_is_refused(memory_mib):
    with pytest.raises(ValueError, match="expected 128 to 10240"):
        launch(memory_mib=memory_mib)


def test_a_function_is_told_the_region_and_the_account_of_its_arn():
    told = order(
        launch(arn="arn:aws:lambda:eu-west-1:123456789012:function:f:1"),
        devices=False,
        snap_start=False,
        uid=None,
    )
    assert told["account"] == "123456789012"
    environment = told["environment"]
    assert {environment["AWS_REGION"], environment["AWS_DEFAULT_REGION"]} == {"eu-west-1"}


@pytest.mark.parametrize(
    ("fields", "found"),
    [({"exit_status": 3}, "status 3"), ({"signal": 9}, "signal 9"), ({}, "the VM is gone")],
)
def test_a_crash_says_how_the_runtime_ended(fields, found):
    assert found in str(Crashed("v1", **fields))
