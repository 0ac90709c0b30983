"""What each operation of the Lambda API does, by the resource that it is about."""
