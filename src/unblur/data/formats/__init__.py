"""The file formats: what a file is, which of its columns is which, and the events in them. Knows no `Interactions`."""
