"""Code that commands share: options, the opening of databases, the named server, errors and exit codes."""
