"""A function that runs by the clock, once a minute."""


def handler(event, context):
    """Say for which minute this is; what is printed is in the function's log."""
    print(f"tick for {event['time']}")
    return {"due": event["time"], "rule": event["resources"][0]}
