"""The SQS API over `faas.queues`, by botocore's model of it."""
