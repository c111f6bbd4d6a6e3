"""Every figure that the documentation claims. Each module has `figures()`; `make bench` prints them."""
