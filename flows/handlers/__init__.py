"""The interface for handlers, the functions that run jobs: the `@step` decorator, the `StepContext`, and its parts."""
