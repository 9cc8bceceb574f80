"""Reports of a process about its work.

`events` notifies listeners, `log_lines` writes structured logs, `spans` makes OpenTelemetry spans, and `step_markdown`
shows the result of a step.
"""
