"""Which passwords are refused: the short and the guessable. What they are made of is nobody's business (ASVS 6.2.5)."""

import re
import unicodedata
from collections.abc import Set as AbstractSet

LEAST_STAFF = 15
LEAST_TENANT = 12
MOST = 128
ENOUGH = 8  # characters that would have to be guessed one by one
WORD_COUNTS = 2  # a word from a list of thousands is worth two characters
ROWS = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "zxcvbnm")
LOOKS_LIKE = str.maketrans("@4301!5$7", "aaeoiisst")
TRIED_HERE = frozenset({"redoubt", "administrator", "operator", "auditor", "security", "sovereign", "changeme"})
YEAR = re.compile(r"(?:19|20)\d\d")
RUN = re.compile(r"(.)\1{2,}")


def prepared(password: str) -> str:
    """Return the one form in which a password is hashed, whatever keyboard it came from (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


def faults(password: str, *, staff: bool, common: AbstractSet[str], context: AbstractSet[str]) -> tuple[str, ...]:
    """Return why a password is refused; `context` are words that a guesser would try here first."""
    least = LEAST_STAFF if staff else LEAST_TENANT
    if len(password) < least:
        return (f"it has {len(password)} characters, and {least} are needed",)
    if len(password) > MOST:
        return (f"it has {len(password)} characters, and {MOST} are allowed",)
    words = TRIED_HERE | {word.casefold() for word in context if len(word) >= 3}
    if _left_to_guess(password.casefold(), common, words) < ENOUGH:
        return ("it is made of common words, names of this place or rows of keys, so it would be guessed",)
    return ()


def _left_to_guess(text: str, common: AbstractSet[str], words: AbstractSet[str]) -> int:
    """Count what a guesser with a list would still have to find; of two readings the cheaper one."""
    core = _without_repeats(text)
    return min(_cost(reading, common, words) for reading in (core, core.translate(LOOKS_LIKE)))


def _cost(text: str, common: AbstractSet[str], words: AbstractSet[str]) -> int:
    """Read the text as the cheapest row of words, rows of keys and single characters."""
    costs = [0] + [0] * len(text)
    for end in range(1, len(text) + 1):
        costs[end] = costs[end - 1] + 1
        for start in range(max(0, end - 20), end - 2):
            piece = text[start:end]
            if piece in words:
                price = 0
            elif len(piece) >= 4 and (piece in common or _is_row(piece) or YEAR.fullmatch(piece)):
                price = WORD_COUNTS
            else:
                continue
            costs[end] = min(costs[end], costs[start] + price)
    return costs[-1]


def _is_row(piece: str) -> bool:
    return any(piece in row or piece[::-1] in row for row in ROWS) or len(set(piece)) == 1


def _without_repeats(text: str) -> str:
    """Shorten `abcabcabc` to `abc` and `aaaa` to `a`: saying it again makes nothing harder to guess."""
    for size in range(1, len(text) // 2 + 1):
        times, rest = divmod(len(text), size)
        chunk = text[:size]
        if times >= 2 and text == chunk * times + chunk[:rest]:
            return RUN.sub(r"\1", chunk)
    return RUN.sub(r"\1", text)
