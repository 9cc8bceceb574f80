"""The history of files and rows: the journal of changes, intents of moves, and rows that an undo writes back.

`journal.py` writes the entries, `undo_entries.py` reads them for an undo, and `photo_states.py` and `project_states.py`
write the earlier rows back.
"""
