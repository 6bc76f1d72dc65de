"""The same as nearly.py, as a program: the model is behind an OpenAI-compatible server.

Any client does; this one needs nothing that is not in Python. What is asked at a time is answered
together, so all prompts go in one request.
"""

import json
import os
import sys
from urllib.request import Request, urlopen

from nearly import share


def complete(prompts):
    asked = {"model": "candidate", "prompt": prompts, "max_tokens": 16, "stop": "\n"}
    headers = {"Authorization": f"Bearer {os.environ['EVOMERGE_API_KEY']}"}
    url = f"{os.environ['EVOMERGE_URL']}/v1/completions"
    with urlopen(Request(url, json.dumps(asked).encode(), headers)) as answer:
        return [one["text"] for one in json.load(answer)["choices"]]


def main():
    with open(os.environ["EVOMERGE_DOCUMENTS"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    replies = complete([row["prompt"] for row in rows])
    scores = [
        {"score": share(reply, row["answer"]), "answer": reply, "target": row["answer"]}
        for reply, row in zip(replies, rows, strict=True)
    ]
    json.dump(scores, sys.stdout)


if __name__ == "__main__":
    main()
