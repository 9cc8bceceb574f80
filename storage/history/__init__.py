"""The journal of files and rows: what was changed, what is about to be moved, and how rows come back."""
