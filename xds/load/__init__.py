"""Load that proxies report: LRS."""
