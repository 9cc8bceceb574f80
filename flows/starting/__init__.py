"""Starting tasks: the arguments are checked, the task is written, and Prefect is asked for its flow run."""
