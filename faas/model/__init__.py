"""What Wherry keeps of functions: immutable values, pure, each with the prefix of its records."""
