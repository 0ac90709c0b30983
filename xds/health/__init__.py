"""Endpoints that Envoys check for us: HDS."""
