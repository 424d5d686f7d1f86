"""A stand-in for ds4-server: a real process with its log, answers, files and signals, no GPU."""
