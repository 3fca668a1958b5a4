"""What the author's CRM stores."""
