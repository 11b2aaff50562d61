"""The command line: its subcommands and their output, without logic of its own."""
