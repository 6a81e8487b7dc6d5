"""The contract between client and server: what goes over a client's socket, and what the codes mean.

The public names are re-exported nowhere: import the module that defines them.
"""
