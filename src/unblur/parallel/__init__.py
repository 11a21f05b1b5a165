"""Work in threads and in processes."""
