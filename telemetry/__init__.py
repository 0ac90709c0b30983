"""Mixer's telemetry half: access logs in, rollups and metrics out."""
