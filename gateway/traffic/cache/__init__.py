"""Answers that are kept for whoever asks next: a shared cache by RFC 9111, without I/O."""
