"""What model files say of themselves: configuration, headers, tokenizer; no weight is loaded."""
