"""The undo of a task: it reads the task's journal backwards, and restores the places of files and values of rows.

Six modules decide what can be restored. `reversal` decides about the values of a photo's row, `ways_back` about its
files, `added_files` and `owner_changes` about its companions, `photo_undo` about its name and project, and
`project_undo` about projects and their manifests. `photo_returns` moves the files and writes the rows, and
`left_entries` reports what stays as it is.
"""
