"""The registry: which devices exist, with role, state, parent and the hash of their HTTP token."""
