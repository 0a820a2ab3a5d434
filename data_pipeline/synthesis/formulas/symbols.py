"""The visible tokens of a formula, by kind, in declared order.

Letters that a reader cannot tell from another symbol (l, o, O, capitals that only differ in size from their small
letter) are left out: a caption must be readable from the image alone.
"""

DIGITS = tuple("0123456789")
LETTERS = tuple("abcdefghijkmnpqrstuvwxyz")
CAPITALS = tuple("ABFHNT")
GREEK = ("\\alpha", "\\beta", "\\gamma", "\\theta", "\\pi", "\\phi", "\\lambda", "\\mu", "\\sigma", "\\Delta")
BINARY_OPERATORS = ("+", "-", "\\times", "\\div", "\\pm", "\\cdot", "/")
RELATIONS = ("=", "<", ">", "\\leq", "\\geq", "\\neq", "\\rightarrow")
PUNCTUATION = ("!", ",", "\\ldots", "\\prime", "\\infty")
FUNCTIONS = ("\\sin", "\\cos", "\\tan", "\\log")
BIG_OPERATORS = ("\\sum", "\\int", "\\lim")
DELIMITERS = ("(", ")", "[", "]", "\\{", "\\}", "|")

VISIBLE_TOKENS = (
    *DIGITS,
    *LETTERS,
    *CAPITALS,
    *GREEK,
    *BINARY_OPERATORS,
    *RELATIONS,
    *PUNCTUATION,
    *FUNCTIONS,
    *BIG_OPERATORS,
    *DELIMITERS,
)
