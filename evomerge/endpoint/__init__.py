"""The one door to language models behind HTTP: bounded in time and bytes, and no key comes back."""
