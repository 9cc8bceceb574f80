"""The history of files and rows: the journal of changes, intents of moves, and rows that an undo writes back."""
