"""Watches the platform from outside and notifies people: gauges, notifications, dashboards."""
