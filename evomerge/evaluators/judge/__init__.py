"""Answers judged by another model: files, endpoints, what was said, and what it means."""
