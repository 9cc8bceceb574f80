"""What a task is started with, checked before it is written; and asking Prefect for its flow run afterwards."""
