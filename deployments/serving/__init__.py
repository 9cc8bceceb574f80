"""What `photojobs up` and `photojobs serve` keep running.

`up` starts and stops everything. `runner` registers deployments, and starts flow runs in a `spare_process`.
`start_checks` refuses foreign flow runs, and skips scheduled ones that overlap. `flow_run_recovery` restarts flow
runs whose process died, `canceled_runs` ends canceled ones, `drain_requests` asks for runs of standalone jobs, and
`missed_runs` skips scheduled runs that were due while nothing ran.
"""
