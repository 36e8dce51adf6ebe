"""One self-contained HTML page that shows what happened in a run."""
