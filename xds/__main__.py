"""`python -m xds`: this service alone, as `wherry run xds`."""

from wherry.cli import main

if __name__ == "__main__":
    main("run", "xds")
