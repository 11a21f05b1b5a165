"""Other programs' command lines and configurations, translated to recipes."""
