"""What must hold in every run, each promise apart. Checkers look on; they never act.

Those that watch servers raise `Violation` at the step that breaks the promise; those that judge a
history raise it when the history is complete.
"""
