"""The JKCS client."""
