"""Starting tasks: modules that check the arguments, make the task, and ask Prefect for its flow run."""
