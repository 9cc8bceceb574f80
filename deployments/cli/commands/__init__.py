"""The commands, a module for each; none is imported before the command line names it."""
