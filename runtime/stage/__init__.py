"""The frame that makes Faust effectively-once for columnar stages."""
