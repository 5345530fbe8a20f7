"""Run the command line by ``python -m nextwatch``."""

from nextwatch.commands.cli import main

if __name__ == "__main__":
    main()
