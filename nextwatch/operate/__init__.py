"""For operators: look at dead letters, replay them, erase a user. Read ``cli.py`` first."""
