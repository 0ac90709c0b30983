"""The API gateway: products, plans, keys, limits and usage."""
