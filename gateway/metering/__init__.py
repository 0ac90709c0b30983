"""What calls used: written once, added up once, and read back for reports and invoices."""
