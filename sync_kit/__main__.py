"""`python -m sync_kit` is the command line, as `sync-kit` is."""

from sync_kit.cli import main

if __name__ == "__main__":
    main()
