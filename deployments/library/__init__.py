"""What an operator does with a library: survey folders, set up a project, accept a changed original."""
