"""The manual. `make docs`, or `python -m docs`, builds it without a network; `docs.pages` writes what is generated."""
