"""What an OpenAPI document says about an API, for people."""
