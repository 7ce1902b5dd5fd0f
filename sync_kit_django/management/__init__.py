"""What `manage.py` can do with sync_kit."""
