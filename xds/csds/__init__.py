"""What every proxy of the fleet was sent and holds: CSDS."""
