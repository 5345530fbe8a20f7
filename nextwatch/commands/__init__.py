"""Define the commands: options, calls of the library, printing."""
