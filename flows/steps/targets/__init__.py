"""What steps work on: the projects of a job, the files of its photos, and whether they are where they should be."""
