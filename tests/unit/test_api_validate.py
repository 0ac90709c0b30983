"""Parameters against the models' bounds, in AWS's words."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faas.api.faults import ValidationFault
from faas.api.patterns import compiled, matches
from faas.api.services import service
from faas.api.validate import refuse_invalid, violations

LAMBDA, SQS = service("lambda"), service("sqs")
CREATE = {
    "FunctionName": "a",
    "Role": "arn:aws:iam::000000000000:role/any",
    "Code": {"ZipFile": b"zip"},
}


def refused(operation, **parameters):
    with pytest.raises(ValidationFault) as found:
        refuse_invalid(LAMBDA, LAMBDA.operations[operation], parameters)
    return str(found.value)


def created(**parameters):
    return refused("CreateFunction", **CREATE | parameters)


def test_what_is_as_the_model_says_passes():
    refuse_invalid(
        LAMBDA,
        LAMBDA.operations["CreateFunction"],
        CREATE
        | {
            "Timeout": 900,
            "Runtime": "python3.11",
            "Architectures": ["x86_64"],
            "Environment": {"Variables": {"A1": "b"}},
            "Tags": {"köln:ж-1": "wért"},
        },
    )


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        (
            {"FunctionName": "a b"},
            "Value 'a b' at 'functionName' failed to satisfy constraint: Member must satisfy "
            "regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?",
        ),
        (
            {"FunctionName": ""},
            "Value '' at 'functionName' failed to satisfy constraint: Member must have length "
            "greater than or equal to 1",
        ),
        (
            {"FunctionName": "a" * 141},
            "at 'functionName' failed to satisfy constraint: Member must have length less than "
            "or equal to 140",
        ),
        (
            {"Timeout": 0},
            "Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater "
            "than or equal to 1",
        ),
        (
            {"MemorySize": 1 << 40},
            "at 'memorySize' failed to satisfy constraint: Member must have value less than or "
            "equal to 32768",
        ),
        (
            {"PackageType": "Jar"},
            "Value 'Jar' at 'packageType' failed to satisfy constraint: Member must satisfy enum "
            "value set: [Zip, Image]",
        ),
        (
            {"Architectures": ["vax"]},
            "Value '[vax]' at 'architectures' failed to satisfy constraint: Member must satisfy "
            "constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not "
            "be null]",
        ),
        (
            {"VpcConfig": {"SubnetIds": ["subnet-1"] * 17}},
            "at 'vpcConfig.subnetIds' failed to satisfy constraint: Member must have length less "
            "than or equal to 16",
        ),
        (
            {"Tags": {"": "x"}},
            "at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: [Member "
            "must have length less than or equal to 128, Member must have length greater than "
            "or equal to 1",
        ),
        (
            {"FileSystemConfigs": [{"Arn": "x", "LocalMountPath": "/mnt/a"}]},
            "Value 'x' at 'fileSystemConfigs.1.member.arn' failed to satisfy constraint: Member "
            "must satisfy regular expression pattern: arn:aws[a-zA-Z-]*:elasticfilesystem:",
        ),
        ({"Layers": [None]}, "Member must not be null]"),
        ({"Role": None}, "Value null at 'role' failed to satisfy constraint: Member must not be "),
    ],
)
def test_each_bound_is_told_in_awss_words(given_, words):
    said = created(**given_)
    assert re.match(r"1 validation error detected: Value |2 validation errors ", said)
    assert words in said


def test_a_secret_value_is_not_said_back():
    said = created(Environment={"Variables": {"1": "hush"}})
    assert said.startswith("1 validation error detected: Value at 'environment.variables' failed")
    assert "hush" not in said


def test_several_errors_are_told_together():
    said = created(Timeout=0, MemorySize=1)
    assert said.startswith("2 validation errors detected: Value '0' at 'timeout'")
    assert "; Value '1' at 'memorySize'" in said


def test_many_errors_are_counted_and_not_all_told():
    said = created(FileSystemConfigs=[{} for _ in range(500)])
    assert said.startswith("1001 validation errors detected: ")
    assert len(said) < 20_000


def test_a_long_value_is_not_said_whole():
    assert len(created(Handler="a" * 100_000)) < 3000


@pytest.mark.parametrize("model", [LAMBDA, SQS], ids=["lambda", "sqs"])
def test_every_pattern_of_the_models_works_in_python(model):
    patterns = [shape.pattern for shape in model.shapes.values() if shape.pattern]
    assert all(isinstance(compiled(each), re.Pattern) for each in patterns)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"[\p{L}\p{Z}]+", "aß ж\u3000", "1"),
        (r"\p{Lu}\P{Lu}", "Éa", "ÉÉ"),
        (r"[a-z[]+", "a[", "A"),
        (r"\d{2}", "12", "١٢"),
        (r"[^\s]+", "a.b", "a b"),
        (r"ab|cd", "cd", "abcd"),
        (r"[0-9A-Za-z\.\-_]*(?<!\.)", "a.b", "a."),
    ],
)
def test_a_pattern_means_what_it_means_in_java(pattern, good, bad):
    assert matches(pattern, good)
    assert not matches(pattern, bad)


@given(st.text(max_size=40))
def test_no_name_is_too_strange_to_be_checked(text):
    operation = LAMBDA.operations["GetFunction"]
    found = violations(LAMBDA, operation, {"FunctionName": text})
    assert found or re.fullmatch(r"[A-Za-z0-9_.:$-]+", text, re.ASCII)
    assert all(each.value == f"'{text}'" for each in found)
