"""What several tests start."""
