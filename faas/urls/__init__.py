"""Function URLs: HTTP doors that functions have of their own."""
