"""What a policy would have done: simulated on a trace, or replayed over recorded samples."""
