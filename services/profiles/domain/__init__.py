"""Rules of profiles: what is a valid event, which fields are personal, who is whom, what a portrait says. All pure."""
