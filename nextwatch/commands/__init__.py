"""The command line: options, calls of the library, printing."""
