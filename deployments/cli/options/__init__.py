"""The parts that several commands use.

`parameters` and `task_options` are options, `empty_values` refuses empty values of all options, `opening` opens the
database, `named_server` checks the Prefect server that the environment names, and `exit_codes` has the exit codes.
"""
