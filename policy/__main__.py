"""`python -m policy`: this service alone, as `wherry run policy`."""

from wherry.cli import main

if __name__ == "__main__":
    main("run", "policy")
