"""The replicated log: Raft, storage, peers and the interface of state machines."""
