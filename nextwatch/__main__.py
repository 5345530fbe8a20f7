"""``python -m nextwatch`` is the command line."""

from nextwatch.cli import main

if __name__ == "__main__":
    main()
