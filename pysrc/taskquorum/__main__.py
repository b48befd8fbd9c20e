"""`python -m taskquorum` is the `taskquorum` command."""

from taskquorum.cli import main

if __name__ == "__main__":
    main()
