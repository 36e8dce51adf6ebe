"""What every part of labctl shares: wire types, errors, clock, waiting, commands, files."""
