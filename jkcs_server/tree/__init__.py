"""The replicated state machine: a hierarchical key tree with sessions."""
