"""Requests that an operation of a service model might get, sensible or not, for hypothesis."""

import base64
import json
from urllib.parse import quote, urlencode

from hypothesis import strategies as st

from faas.api.model import NUMBERS, Kind, Location
from faas.api.validate import _constraints
from support.lambda_api import zipped

ARN = "arn:aws:lambda:us-east-1:000000000000:"
ROLE = "arn:aws:iam::000000000000:role/any"
ZIP = zipped("def handler(e, c): return e\n")
TEXTS = (
    *("f", "g", "f:1", "f:live", "f:$LATEST", "missing", "$LATEST", "1", "2", "live", "l", "s"),
    *(ARN + "function:f", ARN + "function:f:1", ARN + "layer:l", ARN + "layer:l:1", ROLE),
    *("arn:aws:sqs:us-east-1:000000000000:q", "arn:aws:lambda:eu-west-1:111111111111:function:f"),
    *("arn:aws:sns:us-east-1:000000000000:t", "arn:aws:iam::111111111111:root", "*", "q", "lambda"),
    *("lambda:InvokeFunction", "lambda:GetLayerVersion", "000000000000", "o-abcdefghij"),
    *("python3.11", "app.handler", "nodejs22.x", "http://127.0.0.1:1/000000000000/q"),
    *("", " ", "a" * 70, "a" * 300, "a" * 5000, "../../etc", "ü", "\U0001f600", "\0", "a\r\nb: c"),
    *('{"a": 1}', "[]", "null", "NaN", "-1", "0", "9" * 30, "1e999", "%00", "\ufffe", "(" * 40),
    *("YWZ0ZXIg", "YWZ0ZXIgZg==", "2026-01-01T00:00:00Z", "ALL", "true"),
    json.dumps({"Version": "2012-10-17", "Statement": []}),
    json.dumps(
        {
            "Statement": {
                "Sid": "s",
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": "lambda:*",
                "Resource": ARN + "function:f",
            }
        }
    ),
)
NUMBERS_TRIED = (0, 1, 2, 3, 10, 60, 128, 900, 1000, -1, 21600, 10**6, 2**31, 2**63, 10**30, 0.5)
WRONG = st.sampled_from(
    [None, True, 0, -1, 1.5, 10**40, "", "x", [], [None], {}, {"a": None}, [[[]]], {"": {"": []}}]
)


OF_MEMBERS = {
    "FunctionName": ("f", "f", "g", "f:1", ARN + "function:f", "missing", "new"),
    "SubnetIds": (["subnet-1"], []),
    "SecurityGroupIds": (["sg-1"], []),
    "StartingPositionTimestamp": (0, 1.7e9),
    "ZipFile": (base64.b64encode(ZIP).decode(),),
    "Layers": ([], [ARN + "layer:l:1"]),
    "Timeout": (1, 900),
    "MemorySize": (128, 10240),
    "EphemeralStorage": ({"Size": 512},),
    "TagKeys": (["a"], []),
    "Runtime": ("python3.11", "nodejs22.x", "ruby3.3"),
    "Role": (ROLE,),
    "Handler": ("app.handler",),
    "Qualifier": ("1", "2", "live", "$LATEST"),
    "EventSourceArn": ("arn:aws:sqs:us-east-1:000000000000:q",),
    "Resource": (ARN + "function:f", ARN + "event-source-mapping:x"),
    "LayerName": ("l", ARN + "layer:l"),
    "QueueName": ("q", "q2", "q.fifo"),
    "QueueUrl": ("http://127.0.0.1/000000000000/q", "http://127.0.0.1/000000000000/q.fifo"),
    "TargetArn": ("arn:aws:sqs:us-east-1:000000000000:q", ""),
    "Destination": ("arn:aws:sqs:us-east-1:000000000000:q", ARN + "function:g"),
    "Architectures": (["x86_64"],),
    "PackageType": ("Zip", "Zip", "Image"),
    "Action": ("lambda:InvokeFunction", "lambda:GetLayerVersion", "lambda:*"),
    "Principal": ("*", "000000000000", "s3.amazonaws.com"),
    "FunctionVersion": ("1", "2", "$LATEST", "ALL"),
}
"""What members of these names are mostly given, so that operations get past the first checks."""
LEFT_OUT = {
    *("S3Bucket", "S3Key", "S3ObjectVersion", "S3ObjectStorageMode", "ImageUri", "RevisionId"),
    *("CodeSigningConfigArn", "TenancyConfig", "CapacityProviderConfig", "DurableConfig"),
    *("RuntimeConfig", "AcceleratorConfig", "PublishTo", "SourceKMSKeyArn", "FileSystemConfigs"),
    *("AmazonManagedKafkaEventSourceConfig", "SelfManagedEventSource", "Topics"),
    *(
        "SelfManagedKafkaEventSourceConfig",
        "DocumentDBEventSourceConfig",
        "ProvisionedPollerConfig",
    ),
    *("MetricsConfig", "SourceAccessConfigurations", "Queues", "TumblingWindowInSeconds"),
    *("Marker", "MasterRegion", "DryRun", "CodeSha256", "ImageConfig"),
}
"""Members that end most requests at once; asked for in wild requests only."""


class Odd:
    """Strategies for the requests of one service model.

    Args:
        model: The service.
        wild: Whether values may be of other types and out of their bounds.
    """

    def __init__(self, model, *, wild):
        self.model, self.wild = model, wild

    def value(self, member, depth=0, name=""):
        if not self.wild and name in OF_MEMBERS:
            return st.sampled_from(
                self.kept(OF_MEMBERS[name], self.model.shape(member)) or OF_MEMBERS[name]
            )
        if not self.wild:
            return self.fitting(self.model.shape(member), depth)
        shape = self.model.shape(member)
        return (
            st.one_of(*[self.fitting(shape, depth)] * 9, WRONG)
            if depth
            else self.fitting(shape, depth)
        )

    def fitting(self, shape, depth):
        """Return values of the shape's type, within its bounds or not."""
        match shape.kind:
            case Kind.STRUCTURE:
                found = self.members(shape.members, shape.required, depth + 1)
            case Kind.LIST:
                found = st.lists(
                    self.value(shape.item, depth + 1),
                    min_size=0 if self.wild else min(3, int(shape.least or 0)),
                    max_size=3 if self.wild else min(3, int(shape.most or 3)),
                )
            case Kind.MAP:
                key = self.fitting(self.model.shape(shape.key), depth + 1)
                found = st.dictionaries(key, self.value(shape.item, depth + 1), max_size=3)
            case Kind.BOOLEAN:
                found = st.booleans()
            case Kind.BLOB:
                found = st.sampled_from([base64.b64encode(ZIP).decode(), "", "eA==", "!"])
            case Kind.TIMESTAMP:
                found = st.sampled_from([0, 1.7e9, -1e9, 1e30, "2026-01-01T00:00:00Z", "x"])
            case _ if shape.kind in NUMBERS:
                near = [int(each) for each in (shape.least, shape.most) if each is not None]
                found = st.sampled_from(self.kept([*NUMBERS_TRIED, *near], shape) or [1])
            case _:
                kept = self.kept(shape.enum or TEXTS, shape)
                found = st.sampled_from(kept) if kept else st.from_regex(shape.pattern or "x")
                if self.wild:
                    found = st.one_of(found, found, st.text(max_size=8))
        return found

    def kept(self, values, shape):
        """Return the values that the shape allows, or all in a wild request."""
        return [each for each in values if self.wild or not _constraints(each, shape)]

    def members(self, members, required, depth):
        fields = {
            name: self.value(each, depth, name)
            for name, each in members.items()
            if self.wild or name not in LEFT_OUT
        }
        return st.builds(
            lambda found, left: {
                members[name].wire_name: each for name, each in found.items() if name not in left
            },
            st.fixed_dictionaries(
                {name: each for name, each in fields.items() if name in required},
                optional={name: each for name, each in fields.items() if name not in required},
            ),
            st.sets(st.sampled_from(required), max_size=1)
            if required and self.wild
            else st.just(()),
        )

    def request(self, operation):
        """Return strategies of method, path, headers and body."""
        members = operation.input.members
        inside = {n: m for n, m in members.items() if m.location is Location.BODY}
        outside = {n: m for n, m in members.items() if m.location is not Location.BODY}
        payload = operation.input.payload
        body = (
            st.sampled_from([b"", b"{}", b"null", b"[1]", b"x", b"\xff"])
            if payload
            else self.members(inside, operation.input.required, 0).map(
                lambda found: json.dumps(found).encode()
            )
        )
        plain = {n: self.plain(m, n) for n, m in outside.items() if self.wild or n not in LEFT_OUT}
        needed = {n for n, m in outside.items() if m.location is Location.URI}
        values = st.fixed_dictionaries(
            {n: each for n, each in plain.items() if n in needed},
            optional={n: each for n, each in plain.items() if n not in needed},
        )
        return st.builds(lambda found, sent: _built(operation, outside, found, sent), values, body)

    def plain(self, member, name):
        """Return texts for a path, a query or a header."""
        found = self.value(member, 0, name)
        return found.map(lambda each: each if isinstance(each, str) else json.dumps(each))


def _built(operation, members, values, body):
    path, query, headers = operation.uri, [], {}
    path, _, fixed = path.partition("?")
    for name, value in values.items():
        member = members[name]
        match member.location:
            case Location.URI:
                label = quote(value, safe="") or "%20"
                for form in ("{%s}", "{%s+}"):
                    path = path.replace(form % member.wire_name, label)
            case Location.QUERY:
                query.append((member.wire_name, value))
            case _:
                safe = value.encode("latin-1", "replace").decode("latin-1")
                headers[member.wire_name] = safe.translate({10: None, 13: None, 0: None})
    text = "&".join(filter(None, [fixed, urlencode(query)]))
    return operation.method, f"{path}?{text}" if text else path, headers, body
