"""What the port says about itself: gRPC health checking and reflection."""
