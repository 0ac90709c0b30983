"""`python -m telemetry`: this service alone, as `wherry run telemetry`."""

from wherry.cli import main

if __name__ == "__main__":
    main("run", "telemetry")
