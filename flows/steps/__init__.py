"""The handlers of the built-in step types; each module registers those of one subject when it is imported."""
