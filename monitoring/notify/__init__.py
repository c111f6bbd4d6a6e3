"""Sends incidents of devices to Alertmanager, which notifies people."""
