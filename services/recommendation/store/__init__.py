"""The schema `recommendation`."""
