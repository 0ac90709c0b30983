import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.functions.permission import allows, like

INVOKE = "lambda:InvokeFunctionUrl"
ROLE = "arn:aws:iam::123456789012:role/service/reader"
SESSION = "arn:aws:sts::123456789012:assumed-role/reader/anna"


def statement(**changes):
    found = {
        "Sid": "one",
        "Effect": "Allow",
        "Principal": "*",
        "Action": INVOKE,
        "Resource": "arn:aws:lambda:us-east-1:000000000000:function:f",
    }
    return found | changes


def test_a_public_statement_lets_everybody_in():
    assert allows([statement()], INVOKE, "", {})
    assert allows([statement()], INVOKE, ROLE, {})


def test_no_statement_lets_nobody_in():
    assert not allows([], INVOKE, ROLE, {})


def test_a_statement_about_another_action_does_not_help():
    assert not allows([statement(Action="lambda:InvokeFunction")], INVOKE, ROLE, {})


@pytest.mark.parametrize("action", ["*", "lambda:*", "lambda:Invoke*", ["lambda:Get*", INVOKE]])
def test_actions_may_be_patterns_and_lists(action):
    assert allows([statement(Action=action)], INVOKE, "", {})


def test_one_denial_wins_over_any_number_of_permissions():
    denial = statement(Sid="two", Effect="Deny", Principal={"AWS": ROLE})
    statements = [statement(), denial, statement(Sid="three")]
    assert not allows(statements, INVOKE, ROLE, {})
    assert allows(statements, INVOKE, ROLE + "2", {})


@pytest.mark.parametrize(
    "meant",
    [
        {"AWS": "*"},
        {"AWS": "123456789012"},
        {"AWS": "arn:aws:iam::123456789012:root"},
        {"AWS": ["arn:aws:iam::999999999999:root", ROLE]},
    ],
)
def test_an_account_means_everybody_in_it_and_a_role_means_its_sessions(meant):
    assert allows([statement(Principal=meant)], INVOKE, ROLE, {})
    assert allows([statement(Principal=meant)], INVOKE, SESSION, {})


def test_nobody_in_particular_is_not_an_account():
    for meant in ({"AWS": "123456789012"}, {"AWS": ROLE}, {"AWS": ""}, {"Service": ""}):
        assert not allows([statement(Principal=meant)], INVOKE, "", {})


def test_a_service_is_another_kind_than_a_role():
    meant = {"Service": "events.amazonaws.com"}
    assert allows([statement(Principal=meant)], INVOKE, "events.amazonaws.com", {})
    assert not allows([statement(Principal=meant)], INVOKE, "s3.amazonaws.com", {})
    assert not allows([statement(Principal={"AWS": "*"}, Action="x")], INVOKE, ROLE, {})


def test_conditions_as_add_permission_writes_them_must_all_hold():
    condition = {
        "StringEquals": {
            "lambda:FunctionUrlAuthType": "NONE",
            "AWS:SourceAccount": "123456789012",
        },
        "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::photos-*"},
        "Bool": {"lambda:InvokedViaFunctionUrl": "true"},
    }
    context = {
        "lambda:functionurlauthtype": "NONE",
        "aws:SourceAccount": "123456789012",
        "aws:SourceArn": "arn:aws:s3:::photos-2026",
        "lambda:InvokedViaFunctionUrl": "true",
    }
    statements = [statement(Condition=condition)]
    assert allows(statements, INVOKE, "", context)
    for key in context:
        without = {name: value for name, value in context.items() if name != key}
        assert not allows(statements, INVOKE, "", without)
        assert not allows(statements, INVOKE, "", context | {key: "other"})


def test_an_arn_pattern_does_not_reach_over_a_colon():
    condition = {"ArnLike": {"aws:SourceArn": "arn:aws:sqs:*:000000000000:jobs"}}
    statements = [statement(Condition=condition)]
    good, bad = "arn:aws:sqs:us-east-1:000000000000:jobs", "arn:aws:sqs:a:b:000000000000:jobs"
    assert allows(statements, INVOKE, "", {"aws:SourceArn": good})
    assert not allows(statements, INVOKE, "", {"aws:SourceArn": bad})


def test_null_asks_whether_a_key_is_there():
    statements = [statement(Condition={"Null": {"aws:SourceArn": "true"}})]
    assert allows(statements, INVOKE, "", {})
    assert not allows(statements, INVOKE, "", {"aws:SourceArn": "arn:aws:s3:::x"})


def test_if_exists_and_negations_hold_when_the_key_is_missing():
    for operator in ("StringEqualsIfExists", "StringNotEquals", "ArnNotLike"):
        assert allows([statement(Condition={operator: {"aws:x": "1"}})], INVOKE, "", {})
    assert not allows(
        [statement(Condition={"StringNotEquals": {"aws:x": "1"}})], INVOKE, "", {"aws:x": "1"}
    )


@pytest.mark.parametrize(
    "strange",
    [
        {"Condition": {"NumericLessThan": {"aws:x": "1"}}},
        {"Condition": {"Bool": "true"}},
        {"Condition": ["Bool"]},
        {"NotPrincipal": {"AWS": ROLE}},
    ],
)
def test_what_is_not_understood_lets_nobody_in(strange):
    assert not allows([statement(**strange)], INVOKE, ROLE, {})
    denial = statement(Effect="Deny", **strange)
    assert not allows([statement(), denial], INVOKE, ROLE, {})


@given(st.text("ab*?", max_size=12))
def test_a_text_is_like_itself_and_like_anything(text):
    assert like("*", text)
    assert like(text, text)
    assert like("?" * len(text), text)


def test_a_hostile_pattern_takes_no_exponential_time():
    assert not like("*a" * 500 + "b", "a" * 2000)
