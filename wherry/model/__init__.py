"""What users write: Gateway API, Istio API and Wherry's own kinds, checked as they are read.

Field names in files are those of the public APIs (camelCase); here they are Python's.
"""
