"""Where developers sign up, get keys, read, try, and see what they used and owe."""
