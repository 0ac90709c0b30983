"""`python -m faas`: this service alone, as `wherry run faas`."""

from wherry.cli import main

if __name__ == "__main__":
    main("run", "faas")
