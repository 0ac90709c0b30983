"""An ordinary Lambda handler: adds one entry to the guestbook."""

import base64
import json
import urllib.error
import urllib.request

ENTRIES = "http://entries/entries"  # a service of the mesh, reached through the mesh


def handler(event, context):
    """Pass the body on to the service and its answer back."""
    body = event.get("body") or ""
    data = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    request = urllib.request.Request(
        ENTRIES, data=data, headers={"content-type": "application/json"}, method="POST"
    )
    timeout = max(0.1, context.get_remaining_time_in_millis() / 1000 - 0.5)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            status, added = answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        status, added = refusal.code, json.load(refusal)
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(added),
    }
