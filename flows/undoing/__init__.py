"""The undo of a task: it reads the task's journal backwards, and restores the places of files and values of rows.

Four modules decide what can come back: `reversal` the values of a photo's row, `ways_back` its files, `photo_undo` its
name and project, and `project_undo` projects and their manifests.
"""
