"""The handlers of the built-in step types; importing a module registers the step types that it holds."""
