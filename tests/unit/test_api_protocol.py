"""Our side of the protocols against botocore's, for every operation of its models."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore import parsers, serialize
from botocore.awsrequest import HeadersDict, prepare_request_dict
from botocore.eventstream import EventStreamBuffer
from botocore.loaders import Loader
from botocore.model import ServiceModel as BotoModel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faas.api import frames
from faas.api.asked import Answered
from faas.api.faults import SerializationFault
from faas.api.model import Kind, Location
from faas.api.parse import MAX_DEPTH, Received, parsed
from faas.api.routing import Router
from faas.api.serialize import event_members, refusal, reply
from faas.api.services import service
from faas.lambda_errors import LambdaError

LAMBDA, SQS = service("lambda"), service("sqs")
BOTO = {
    name: BotoModel(Loader().load_service_model(name, "service-2"), name)
    for name in ("lambda", "sqs")
}
ROUTER = Router(LAMBDA.operations.values())
EVERY = [
    pytest.param(model, operation, id=f"{model.name}-{operation.name}")
    for model in (LAMBDA, SQS)
    for operation in model.operations.values()
]
FEW = settings(
    max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
LABEL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
HEADER = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)
TIMES = st.integers(0, 4_000_000_000).map(lambda at: datetime.fromtimestamp(at, UTC))


def values(model, member, location=Location.BODY, depth=0):
    """Return a strategy for values that botocore accepts there."""
    shape = model.shape(member)
    if shape.kind is Kind.STRUCTURE:
        return structures(model, shape, depth + 1)
    if shape.kind is Kind.LIST:
        return st.lists(values(model, shape.item, location, depth + 1), min_size=1, max_size=3)
    if shape.kind is Kind.MAP:
        keys = HEADER if location is Location.HEADERS else TEXT
        items = values(model, shape.item, location, depth + 1)
        return st.dictionaries(keys, items, min_size=1, max_size=3)
    texts = {Location.HEADER: HEADER, Location.HEADERS: HEADER, Location.URI: LABEL}
    return {
        Kind.STRING: texts.get(location, TEXT),
        Kind.BLOB: st.binary(min_size=1, max_size=24),
        Kind.TIMESTAMP: TIMES,
        Kind.INTEGER: st.integers(-(2**31), 2**31 - 1),
        Kind.LONG: st.integers(-(2**63), 2**63 - 1),
        Kind.FLOAT: st.floats(allow_nan=False, allow_infinity=False),
        Kind.DOUBLE: st.floats(allow_nan=False, allow_infinity=False),
        Kind.BOOLEAN: st.booleans(),
    }[shape.kind]


def structures(model, shape, depth=0, *, without=frozenset()):
    needed, other = {}, {}
    for name, member in shape.members.items():
        if member.location in without or depth > 4:
            continue
        always = member.location is Location.URI or name in shape.required
        (needed if always else other)[name] = values(model, member, member.location, depth)
    return st.fixed_dictionaries(needed, optional=other)


def received(model, operation, parameters):
    """Return what comes over the wire when botocore sends ``parameters``."""
    boto = BOTO[model.name].operation_model(operation.name)
    wired = serialize.create_serializer(model.protocol, False).serialize_to_request(
        parameters, boto
    )
    prepare_request_dict(wired, "http://localhost")
    parts = urlsplit(wired["url"])
    query = parse_qsl(parts.query, keep_blank_values=True)
    headers = {name.lower(): value for name, value in wired["headers"].items()}
    labels = {}
    if model.protocol == "rest-json":
        routed = ROUTER.find(wired["method"], parts.path, query)
        assert routed is not None
        assert routed.operation.name == operation.name
        labels = routed.labels
    return Received(query, headers, wired["body"] or b"", labels)


@pytest.mark.parametrize(("model", "operation"), EVERY)
def test_what_botocore_sends_is_read_back(model, operation):
    @FEW
    @given(structures(model, operation.input))
    def holds(parameters):
        expected = dict(parameters)
        payload = operation.input.payload
        if payload and model.shape(operation.input.members[payload]).kind is Kind.STRUCTURE:
            expected.setdefault(payload, {})  # botocore sends {} for none
        assert parsed(model, operation, received(model, operation, parameters)) == expected

    holds()


@pytest.mark.parametrize(("model", "operation"), EVERY)
def test_what_is_answered_is_what_botocore_reads(model, operation):
    boto = BOTO[model.name].operation_model(operation.name)
    without = {Location.STATUS}

    @FEW
    @given(structures(model, operation.output, without=without))
    def holds(members):
        answer = reply(model, operation, Answered(members | {"Unknown": 1}))
        said = {
            "status_code": answer.status,
            "headers": HeadersDict(answer.headers),
            "body": bytearray(answer.body) if operation.output.payload else answer.body,
            "context": {"operation_name": operation.name},
        }
        found = parsers.create_parser(model.protocol).parse(said, boto.output_shape)
        found.pop("ResponseMetadata")
        for name, member in operation.output.members.items():
            if member.location is Location.STATUS:
                assert found.pop(name) == answer.status
        payload = operation.output.payload
        if payload and payload not in members:
            assert found.pop(payload) == b""
        assert found == members

    if not operation.events and boto.output_shape is not None:
        holds()


def test_every_operation_has_a_path_of_its_own():
    for operation in LAMBDA.operations.values():
        path, _, query = operation.uri.partition("?")
        at = path.replace("{", "").replace("}", "")
        found = ROUTER.find(operation.method, at, parse_qsl(query))
        assert found is not None
        assert found.operation is operation


@pytest.mark.parametrize(
    ("method", "path", "query", "name"),
    [
        ("GET", "/2015-03-31/functions", "", "ListFunctions"),
        ("GET", "/2015-03-31/functions/", "", "ListFunctions"),
        ("GET", "/2018-10-31/layers", "find=LayerVersion&Arn=x", "GetLayerVersionByArn"),
        ("GET", "/2018-10-31/layers", "find=other", "ListLayers"),
        ("GET", "/2015-03-31/functions/arn%3Aaws%3Alambda", "", "GetFunction"),
    ],
)
def test_the_most_specific_path_wins(method, path, query, name):
    found = ROUTER.find(method, path, parse_qsl(query))
    assert found is not None
    assert found.operation.name == name


@pytest.mark.parametrize(
    ("method", "path"),
    [("PATCH", "/2015-03-31/functions"), ("GET", "/2015-03-31/functions/a/b"), ("GET", "/")],
)
def test_a_path_of_no_operation_has_none(method, path):
    assert ROUTER.find(method, path, []) is None


def body(text):
    operation = LAMBDA.operations["CreateFunction"]
    return parsed(LAMBDA, operation, Received((), {}, text, {}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"FunctionName": 7}', "NUMBER_VALUE cannot be converted to String"),
        (b'{"Timeout": "7"}', "STRING_VALUE cannot be converted to Integer"),
        (b'{"Timeout": true}', "TRUE_VALUE cannot be converted to Integer"),
        (b'{"Timeout": 1.5}', "NUMBER_VALUE cannot be converted to Integer"),
        (b'{"Timeout": NaN}', "NaN"),
        (b'{"Publish": 1}', "NUMBER_VALUE cannot be converted to Boolean"),
        (b'{"Code": []}', "Start of structure or map found where not expected"),
        (b'{"Layers": "x"}', "a list was expected (Layers)"),
        (b'{"Code": {"ZipFile": "%"}}', "Code.ZipFile: found text, expected base64"),
        (b"[]", "no JSON object"),
        (b"{", "Could not parse request body into json"),
        (b"[" * 100_000, "Could not parse request body into json"),
        (b"\xff", "Could not parse request body into json"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(text, words):
    with pytest.raises(SerializationFault) as refused:
        body(text)
    assert words in str(refused.value)


def test_null_is_as_good_as_not_sent_and_unknown_names_are_left_out():
    assert body(b'{"FunctionName": null, "Timeout": 3, "Nope": [1]}') == {"Timeout": 3}


def test_nesting_has_an_end():
    assert MAX_DEPTH < 100
    deep = b'{"Environment":' * 2000 + b"1" + b"}" * 2000
    with pytest.raises(SerializationFault):
        body(deep)


@pytest.mark.parametrize("text", ["1x", "", "٣", "9" * 30])
def test_a_number_in_a_path_is_a_number(text):
    operation = LAMBDA.operations["GetLayerVersion"]
    labels = {"LayerName": "a", "VersionNumber": text}
    with pytest.raises(SerializationFault):
        parsed(LAMBDA, operation, Received((), {}, b"", labels))


def test_botocore_reads_our_errors():
    class Gone(LambdaError):
        code, status, fault = "ResourceNotFoundException", 404, "User"

    answer = refusal(LAMBDA, Gone("no such function"))
    said = {
        "status_code": answer.status,
        "headers": HeadersDict(answer.headers),
        "body": answer.body,
        "context": {"operation_name": "GetFunction"},
    }
    found = parsers.create_parser("rest-json").parse(said, None)
    assert found["Error"] == {"Code": "ResourceNotFoundException", "Message": "no such function"}


def test_botocore_reads_the_errors_of_a_json_service():
    class Gone(LambdaError):
        code, status, fault = "QueueDoesNotExist", 400, "User"

    answer = refusal(SQS, Gone("no such queue"))
    said = {
        "status_code": answer.status,
        "headers": HeadersDict(answer.headers),
        "body": answer.body,
        "context": {"operation_name": "SendMessage"},
    }
    found = parsers.create_parser("json").parse(said, None)
    assert found["Error"]["Message"] == "no such queue"
    assert found["Error"]["QueryErrorCode"] == "QueueDoesNotExist"


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=300).map(lambda body: ("PayloadChunk", {"Payload": body})),
            st.fixed_dictionaries({}, optional={"ErrorCode": TEXT, "LogResult": TEXT}).map(
                lambda members: ("InvokeComplete", members)
            ),
        ),
        max_size=6,
    ),
    st.integers(1, 64),
)
def test_botocore_reads_our_events_however_they_are_cut(events, step):
    operation = LAMBDA.operations["InvokeWithResponseStream"]
    stream = LAMBDA.shape(operation.output.members[operation.events])
    wire = b""
    for name, members in events:
        shape = LAMBDA.shape(stream.members[name])
        wire += frames.event(name, *event_members(LAMBDA, shape, members))
    buffer = EventStreamBuffer()
    parser = parsers.create_parser("rest-json")
    boto = BOTO["lambda"].operation_model("InvokeWithResponseStream")
    shape = boto.get_event_stream_output()
    found = []
    for at in range(0, len(wire), step):
        buffer.add_data(wire[at : at + step])
        found += [
            parser._event_stream_parser.parse(each.to_response_dict(), shape) for each in buffer
        ]
    assert found == [{name: members} for name, members in events]


def test_an_exception_ends_a_stream():
    buffer = EventStreamBuffer()
    buffer.add_data(frames.exception("ServiceException", b'{"message": "gone"}'))
    [message] = buffer
    assert message.to_response_dict()["status_code"] == 400
    assert message.headers[":exception-type"] == "ServiceException"


def test_a_message_has_bounds():
    with pytest.raises(ValueError, match="expected at most"):
        frames.message({}, bytes(frames.MAX_PAYLOAD + 1))
    with pytest.raises(ValueError, match="event header"):
        frames.message({"a": "x" * (1 << 15)})
