"""From what was used to what is owed: rating, invoices, credits."""
