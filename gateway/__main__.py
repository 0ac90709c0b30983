"""`python -m gateway`: this service alone, as `wherry run gateway`."""

from wherry.cli import main

if __name__ == "__main__":
    main("run", "gateway")
