"""What the threads of a process share while they run jobs.

`runtime` opens the shared objects. `executor` has the threads. `followed_jobs` waits for jobs and their slots.
`heartbeat_thread` decides when heartbeats are written. `job_claim` checks whether a job still belongs to its executor.
`retry_delay` computes the wait before another attempt. `database_retry` repeats calls while the database is
unavailable.
"""
