"""The commands, one module for each; a module is imported only if the command line names its command."""
