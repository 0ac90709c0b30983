"""The guest's entry point: ``python -I -S DIRECTORY``."""

from faas.guest.agent import main

if __name__ == "__main__":
    main()
