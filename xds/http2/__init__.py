"""Discovery over an HTTP/2 shell of our own; see docs/decisions/0012-a-second-http2-shell.md."""
