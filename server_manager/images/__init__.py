"""Images: what servers are cloned from. Fetched, built and removed here, with drivers' help."""
