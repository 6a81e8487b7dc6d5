"""The Raft rules: no clock, no disk, no network."""
