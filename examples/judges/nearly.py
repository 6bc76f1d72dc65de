"""Partial credit for genomes/own-judges.yml: the share of letters that stand where they should."""


def nearly(model, documents):
    replies = model.generate([one["prompt"] for one in documents], max_tokens=16, stop="\n")
    return [
        {
            "score": share(reply, one["answer"]),
            "prompt": one["prompt"],
            "answer": reply,
            "target": one["answer"],
        }
        for reply, one in zip(replies, documents, strict=True)
    ]


def share(reply, answer):
    letters, wanted = reply.split(), answer.split()
    right = sum(mine == theirs for mine, theirs in zip(letters, wanted, strict=False))
    return right / max(len(letters), len(wanted))
