"""The handlers' side of a job: the `@step` decorator, the `StepContext`, and what it gives and records."""
