"""What commands share: options, access to the database and to a Prefect server, errors and exit codes."""
