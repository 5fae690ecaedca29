"""One folder, one process, one image, one database schema, one noun everywhere."""
