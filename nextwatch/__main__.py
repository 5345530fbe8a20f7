"""``python -m nextwatch`` is the command line."""

from nextwatch.commands.cli import main

if __name__ == "__main__":
    main()
