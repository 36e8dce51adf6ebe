"""The narrated demo: a lab comes up, grows under load, shrinks again, and a report proves it."""
