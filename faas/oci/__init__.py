"""Container images: read from archives, layouts and registries, merged and laid out safely."""
