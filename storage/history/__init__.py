"""The journal of changes of files and rows, intents of moves, and the rows that an undo writes back."""
