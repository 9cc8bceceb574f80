"""The runtime that the threads of a process share: heartbeats, claims, and waiting for slots or for the database."""
