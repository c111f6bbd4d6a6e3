"""Looks at what no service can tell of itself: the ledger, the engines, their disks and certificates."""
