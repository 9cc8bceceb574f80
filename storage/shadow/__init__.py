"""The rows of a plan: copied into another database, and compared with what they were."""
