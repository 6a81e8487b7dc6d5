"""The JKCS server: the replicated key tree, its front ends, the embeddable node and the command line."""
