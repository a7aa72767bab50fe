"""Several workers' metrics as one text: each sample says whose it is, so that no counter ever goes back.

A sum over workers would drop by all that a crashed one had counted, which Prometheus would take for a restart of them
all.
"""

import re
from collections.abc import Iterator, Mapping

_SAMPLE = re.compile(r"(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)(?P<labelled>\{)?")
_END = "# EOF"


def merged(texts: Mapping[int, str]) -> str:
    """Put the expositions of workers, by their numbers, together: one head a family, its samples under it."""
    families: dict[str, tuple[list[str], list[str]]] = {}
    ended = False
    for number, text in texts.items():
        for head, sample in _lines(text):
            ended = ended or head == _END
            name = _family(head)
            heads, samples = families.setdefault(name, ([], []))
            if sample is not None:
                samples.append(_owned(sample, number))
            elif head not in heads and head != _END:
                heads.append(head)
    lines = [line for heads, samples in families.values() for line in (*heads, *samples)]
    return "".join(f"{line}\n" for line in (*lines, *([_END] if ended else [])))


def labelled(samples: str, number: int) -> str:
    """Say of samples, one a line, that they are the worker's of this number."""
    return "".join(f"{_owned(line, number)}\n" for line in samples.splitlines())


def _lines(text: str) -> Iterator[tuple[str, str | None]]:
    """Give each line as (head, None), or as (the head above it, sample)."""
    head = ""
    for line in text.splitlines():
        if line.startswith("#"):
            head = line
            yield line, None
        else:
            yield head, line


def _family(head: str) -> str:
    """Name the family of a `# HELP name …` or `# TYPE name …` line."""
    return head.split(" ", 3)[2] if head.count(" ") > 1 else head


def _owned(sample: str, number: int) -> str:
    """Add the label; first, since the others end with a brace or are missing."""
    found = _SAMPLE.match(sample)
    if found is None:
        return sample
    rest = sample[found.end() :]
    label = f'{{worker="{number}"'
    if found["labelled"] is None:
        return f"{found['name']}{label}}}{rest}"
    return f"{found['name']}{label}{'' if rest.startswith('}') else ','}{rest}"
