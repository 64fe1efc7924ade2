"""Prompts with a whole reply, and the places where the reply chooses."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from foggen_runtime.bundle.manifest import PromptInfo, TemplateInfo
from foggen_runtime.decide.trie import TemplateTrie
from foggen_runtime.text.choice import question_options
from foggen_runtime.text.tokenizer import QuestionTokenizer

# More questions rank the groups of weights the same way, but cost time and memory.
_MAX_PROBES = 8


@dataclass(frozen=True)
class Choice:
    """A place in a reply where the model chooses among a few tokens.

    Attributes:
        row: Which row of logits, counted from the reply's end: -1 is the last.
        tokens: What it chooses among.
        taken: The place in `tokens` of the one that the reply continues with; None at its end.
    """

    row: int
    tokens: tuple[int, ...]
    taken: int | None


@dataclass(frozen=True)
class Probe:
    """The part of a prompt after the prefix, with a reply up to the answer.

    Attributes:
        ids: Token ids.
        choices: Where the template branches, then the answer's letter.
    """

    ids: tuple[int, ...]
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class ProbeSet:
    """Probes that share a prompt prefix."""

    prefix_ids: tuple[int, ...]
    probes: tuple[Probe, ...]

    @property
    def rows(self) -> int:
        """How many last rows of logits hold every choice."""
        return max(-choice.row for probe in self.probes for choice in probe.choices)

    @property
    def tokens(self) -> int:
        """How many tokens the probes have in total."""
        return sum(len(probe.ids) for probe in self.probes)


def probe_set(
    questions: Sequence[str],
    tokenizer: QuestionTokenizer,
    prompt: PromptInfo,
    template: TemplateInfo,
) -> ProbeSet:
    """Probe a model with some of the questions."""
    trie = TemplateTrie.of(template)
    depths = [_branches(trie, path) for path in trie.paths]
    # The level with the most branches on its way shows the most of the choice between levels.
    paths = [path for path, depth in zip(trie.paths, depths, strict=True) if depth == max(depths)]
    probes = []
    for i, question in enumerate(probing_questions(questions)):
        path = paths[i % len(paths)]
        reply = (*path, *template.answer_prefix_ids)
        ids = tokenizer.prompt_ids(prompt, question)[len(prompt.prefix_ids) :]
        letters = _letters(question, tokenizer, template)
        probes.append(Probe((*ids, *reply), _choices(trie, path, len(reply), letters)))
    return ProbeSet(prompt.prefix_ids, tuple(probes))


def probing_questions(questions: Sequence[str]) -> list[str]:
    """Split the questions into parts and return the shortest of each: long probes cost more."""
    count = min(_MAX_PROBES, len(questions))
    edges = [i * len(questions) // count for i in range(count + 1)]
    return [min(questions[start:end], key=len) for start, end in pairwise(edges)]


def _branches(trie: TemplateTrie, path: tuple[int, ...]) -> int:
    return sum(path[: len(node)] == node for node in trie.branches)


def _choices(
    trie: TemplateTrie, path: tuple[int, ...], length: int, letters: tuple[int, ...]
) -> tuple[Choice, ...]:
    """Return the choices along a reply of `length` tokens that begins with `path`."""
    found = []
    for depth, token in enumerate(path):
        tokens = trie.children[path[:depth]]
        if len(tokens) > 1:
            found.append(Choice(depth - length - 1, tokens, tokens.index(token)))
    if letters:
        found.append(Choice(-1, letters, None))
    return tuple(found)


def _letters(
    question: str, tokenizer: QuestionTokenizer, template: TemplateInfo
) -> tuple[int, ...]:
    """Return the first token of each option letter after the answer prefix."""
    start = len(template.answer_prefix_ids)
    texts = [f"{template.answer_prefix} {letter}" for letter in question_options(question)]
    return tuple(tokenizer.encode(text)[start] for text in texts)
