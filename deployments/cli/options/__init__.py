"""What command lines have in common: the databases and servers that they open, task options, errors, exit codes."""
