"""What can be known before a run: rules over one context, what it takes, what is installed."""
