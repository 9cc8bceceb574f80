"""The rows of a plan: copies rows to another database, and finds the changes of the copies."""
