"""What people ask the Pilot, and what it answers: pages, metrics, differences."""
