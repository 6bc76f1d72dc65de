"""What is installed, what the machine has, what works with what; nothing is changed."""
