"""Event source mappings: queues and streams read into functions."""
