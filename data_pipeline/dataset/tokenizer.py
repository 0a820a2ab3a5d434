"""Tokenizer: text to token ids and back. Tokens are separated by one space, as in `\\frac { a } { b }`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from cluster.errors import UserError

BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"


class VocabularyMismatch(UserError):
    """Two vocabularies that should be the same and are not."""


class Tokenizer:
    """The vocabulary of a dataset: `<bos>` 0, `<eos>` 1, `<pad>` 2, then the charset in its declared order."""

    bos_id, eos_id, pad_id = 0, 1, 2

    def __init__(self, charset: Sequence[str]) -> None:
        if len(set(charset)) != len(charset):
            raise UserError(f"The charset repeats {sorted({t for t in charset if list(charset).count(t) > 1})}.")
        self.charset = list(charset)
        self._tokens = [BOS, EOS, PAD, *charset]
        self._ids = {token: index for index, token in enumerate(self._tokens)}

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def all_tokens(self) -> list[str]:
        """The tokens in the order of their ids, special ones first."""
        return list(self._tokens)

    def groups(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of the tokens that open and that close a group: the braces of LaTeX, where the charset has both."""
        pair = [token for token in ("{", "}") if token in self._ids]
        return ((self._ids["{"],), (self._ids["}"],)) if len(pair) == 2 else ((), ())

    def encode(self, text: str) -> list[int]:
        """Ids of `text` between `<bos>` and `<eos>`.

        Raises:
            UserError: a token outside the vocabulary.
        """
        try:
            return [self.bos_id, *(self._ids[token] for token in text.split()), self.eos_id]
        except KeyError as error:
            raise UserError(f"Token {error} of '{text}' is not in the vocabulary of {len(self.charset)} tokens.") from None

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids` up to the first `<eos>`; `<bos>` and `<pad>` are skipped."""
        return " ".join(self.tokens(ids))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Tokens of `ids` up to the first `<eos>`; `<bos>` and `<pad>` are skipped."""
        tokens: list[str] = []
        for index in ids:
            if index == self.eos_id:
                break
            if index not in (self.bos_id, self.pad_id):
                tokens.append(self._tokens[index])
        return tokens

    def to_json(self) -> bytes:
        """The bytes of `vocab.json` of a checkpoint."""
        specials = {"bos": BOS, "eos": EOS, "pad": PAD}
        return json.dumps({"specials": specials, "charset": self.charset}, ensure_ascii=False, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Tokenizer:
        """Read `vocab.json`."""
        return cls(json.loads(data)["charset"])

    def require_same(self, other: Tokenizer, mine: str, theirs: str) -> None:
        """Check that `other` (from `theirs`, in words) is the same vocabulary as this one (from `mine`).

        Raises:
            VocabularyMismatch: with the tokens that only one of them has, or the first place where the order differs.
        """
        if self.charset == other.charset:
            return
        only_mine = [token for token in self.charset if token not in other._ids]
        only_theirs = [token for token in other.charset if token not in self._ids]
        if only_mine or only_theirs:
            difference = f"only in {mine}: {_some(only_mine)}; only in {theirs}: {_some(only_theirs)}"
        else:
            at = next(i for i, (a, b) in enumerate(zip(self.charset, other.charset, strict=True)) if a != b)
            difference = f"same tokens, other order from position {at}: '{self.charset[at]}' and '{other.charset[at]}'"
        raise VocabularyMismatch(
            f"The vocabulary of {mine} ({len(self.charset)} tokens) is not that of {theirs} ({len(other.charset)}): "
            f"{difference}. Use a dataset with the same charset, or train again."
        )

    def require_covers(self, other: Tokenizer, mine: str, theirs: str) -> None:
        """Check that every token of `other` is in this vocabulary, as evaluation requires.

        Raises:
            VocabularyMismatch: with the tokens that are missing here.
        """
        missing = [token for token in other.charset if token not in self._ids]
        if missing:
            raise VocabularyMismatch(
                f"{theirs} has {len(missing)} tokens that {mine} was never taught: {_some(missing)}. "
                "Evaluate on a dataset with the same charset, or pass --allow-unknown-tokens to count them as errors."
            )


def _some(tokens: list[str], limit: int = 20) -> str:
    if not tokens:
        return "none"
    return " ".join(tokens[:limit]) + (f" and {len(tokens) - limit} more" if len(tokens) > limit else "")
