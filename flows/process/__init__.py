"""What the threads of a process share: the runtime, heartbeats, claims, and waiting for slots or for a database."""
