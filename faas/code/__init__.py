"""Code of functions and layers: where it comes from, how it is built, checked and kept."""
