"""The copy of the log in Kafka: how it is written there, and how it is read."""
