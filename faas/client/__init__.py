"""What the command line does to a running Wherry over the Lambda API."""
