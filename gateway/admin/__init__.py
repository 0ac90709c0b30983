"""The REST interface for operators: the catalogue, keys, usage and money."""
