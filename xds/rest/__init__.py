"""Discovery by REST: requests and resources in JSON, and the clients that poll."""
