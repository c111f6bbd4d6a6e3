"""Tells people of incidents of devices, by way of Alertmanager."""
