"""The handlers of the built-in step types; importing a module registers the step types that it holds.

To add a built-in step type, describe it in `task_definitions.step_types`, and write its handler with `@step` (of
`flows.handlers.step`) in the room that fits. Other packages register theirs by an entry point.
"""
