"""What synthetic users are worth: recommenders trained with them, measured on real users."""
