"""What acts on the server. Nothing here is done that a plan does not say."""
