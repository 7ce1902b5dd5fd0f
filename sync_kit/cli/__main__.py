"""`python -m sync_kit.cli`."""

from sync_kit.cli import main

if __name__ == "__main__":
    main()
