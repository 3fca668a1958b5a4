"""How meetings get into the author's CRM."""
