"""The handlers of the built-in step types. The import of a module registers the step types that it defines.

To add a built-in step type, describe it in `task_definitions.step_types`, write its handler with `@step` in the folder
that fits, and name the module in `flows.handlers.step`. A handler that works on each photo calls `each_photo` of
`flows.steps.targets.target_photos`. Other packages register their step types by an entry point.
"""
