"""Counts down, a line at a time."""

import time


def handler(event):
    """Yield ``{"from": 3, "pause": 0.5}`` as lines; a function URL says so in its query."""
    asked = event.get("queryStringParameters", {}) if "requestContext" in event else event
    if "requestContext" in event:
        yield {"statusCode": 200, "headers": {"content-type": "text/plain"}}
    for number in range(int(asked.get("from", 3)), 0, -1):
        yield f"{number}\n"
        time.sleep(float(asked.get("pause", 0.5)))
    yield "lift-off\n"
