"""What people read: tables, figures, executed notebooks."""
