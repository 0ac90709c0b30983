"""An ordinary Lambda handler that says in a header how many tokens its answer took."""

import json


def handler(event, context):
    """Recommend a book, with reasons."""
    reader = (event.get("queryStringParameters") or {}).get("reader", "you")
    text = f"Dear {reader}, read Walden: it is short, and it is about building a house."
    return {
        "statusCode": 200,
        "headers": {"content-type": "application/json", "x-tokens": str(len(text.split()))},
        "body": json.dumps({"text": text}),
    }
