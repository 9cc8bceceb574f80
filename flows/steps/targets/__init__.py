"""The targets of steps: the projects of a job, the files of its photos, and where missing folders are now."""
