"""Definitions as deployments: forms, schedules, and registering them for runners and work pools."""
