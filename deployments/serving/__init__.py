"""What `photojobs up` and `photojobs serve` keep running.

`up` starts and stops everything. `runner` registers deployments, and starts flow runs in a `spare_process` after
`start_checks` has accepted them. `attendant` restarts flow runs whose process died.
"""
