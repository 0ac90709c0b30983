"""Mixer's policy half: decisions and the ext_authz service."""
