"""The one client of ClickHouse: settings, errors as policy, statements, inserts, and streams that end or raise."""
