"""The undo of a task: it reads the task's journal backwards, and restores the places of files and values of rows."""
