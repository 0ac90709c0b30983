"""Instances of functions and the calls that they serve."""
