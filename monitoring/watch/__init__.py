"""Monitors what no service can report about itself: the ledger, the engines, their disks and certificates."""
