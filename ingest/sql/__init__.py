"""SQL in files: migrations, and named statements by stage."""
