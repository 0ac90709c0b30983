"""What runs inside a VM or sandbox: an agent that needs Python 3.11's standard library only."""
