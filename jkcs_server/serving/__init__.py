"""What each server keeps for itself: client connections, watches, session liveness."""
