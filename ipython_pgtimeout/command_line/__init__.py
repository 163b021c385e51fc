"""``pgtimeout``: GNU timeout's options and exit codes, and nothing that the command has started is left."""
