"""Who calls: one module per way to say so, and the gateway's own token server."""
