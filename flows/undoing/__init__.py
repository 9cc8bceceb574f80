"""The undo of a task: reads its journal backwards, returns files to their places and rows to their earlier values."""
