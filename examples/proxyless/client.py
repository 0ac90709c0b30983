"""A gRPC client that dials a name of the mesh: python client.py [CALLS] [HEADER=VALUE ...]."""

import sys
from collections import Counter

import grpc
from google.protobuf.wrappers_pb2 import StringValue


def main(calls="20", *headers):
    """Make the calls, one after the other, and say how often each answer came."""
    metadata = [tuple(header.split("=", 1)) for header in headers]
    with grpc.insecure_channel("xds:///greeter") as channel:
        hello = channel.unary_unary(
            "/hello.Greeter/Hello", StringValue.SerializeToString, StringValue.FromString
        )
        answers = Counter(
            hello(StringValue(value="mesh"), timeout=10, metadata=metadata).value
            for _ in range(int(calls))
        )
    for answer, count in sorted(answers.items()):
        print(f"{count:5} {answer}")


main(*sys.argv[1:])
