"""The commands, grouped by what they work on; a module is imported only if the command line names its command."""
