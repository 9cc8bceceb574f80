"""The rows of a plan (a run on copies): copies rows to another database, and finds the changes of the copies."""
