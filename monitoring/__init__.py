"""What watches the platform from outside and tells people: gauges, notifications, dashboards."""
