"""Mixer's policy half: decisions, limits and the ext_authz service."""
