"""Count words in many texts at once; on a terminal, a progress bar shows how far it is.

greenroom run examples/map_words.py --copies 50
"""

from collections import Counter

import greenroom

app = greenroom.App("words")
TEXT = "the actors wait in the green room warmed up until the call"


@app.function(max_containers=2)
def count(text: str) -> Counter[str]:
    return Counter(text.split())


@app.local_entrypoint()
def main(copies: int = 20) -> None:
    total: Counter[str] = Counter()
    for part in count.map([TEXT] * copies, order_outputs=False):
        total += part
    print(total.most_common(3))
