"""Queues over the Store, with the promises and the limits of SQS."""
