"""Training of any network, epoch by epoch."""
