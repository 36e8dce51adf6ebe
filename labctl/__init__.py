"""The command line: reads the lab file, asks the server-manager and the scaler, and shows."""
