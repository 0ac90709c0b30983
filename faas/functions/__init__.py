"""Which functions there are, and what one can do with them."""
