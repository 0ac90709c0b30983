"""The pages: each module has the routes of one concern, and what they show."""
