"""What functions and their instances tell: log lines, reports, figures and spans."""
