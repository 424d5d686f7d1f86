"""What ds4top costs: measured and printed, never asserted."""
