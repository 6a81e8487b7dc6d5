"""The benchmark: what is measured, how the load is made, and what is set beside it. `jkcs bench` runs it."""
