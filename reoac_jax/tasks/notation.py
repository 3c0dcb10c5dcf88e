r"""One spelling for what is written in many: Unicode and LaTeX made plain before it is read.

`plain_text` is what numbers are read from; `latex_text` is what `math-verify` is given, which knows
LaTeX but few other characters.
"""

import functools
import re
import unicodedata

# Dashes (category Pd) and the signs that stand for a minus; a hyphen that only allows a line
# break (soft hyphen, category Cf) goes with the other invisible characters.
_MINUS = "\u2212\u2796\u02d7\u207b\u208b\ufe63\uff0d"
_PLAIN = {
    **dict.fromkeys(_MINUS, "-"),
    **dict.fromkeys("\u2215\u2044\u29f8\u00f7\u2797", "/"),  # slashes and division signs
    **dict.fromkeys("\u00d7\u00b7\u22c5\u2219\u2217\u2022\u2715\u2716\u30fb", "*"),
    **dict.fromkeys("\u2192\u21d2\u27f6\u27f9", "="),  # arrows: what stands behind is the result
    **dict.fromkeys("\u2018\u2019\u02bc\u2032\u00b4`", "'"),
    **dict.fromkeys("\u201c\u201d\u2033", '"'),
    **dict.fromkeys("\u066b", "."),
    **dict.fromkeys("\u066c\u3001\u060c", ","),
    "\u066a": "%",
    "\u3002": ".",
    "\u2236": ":",
    "\u2116": "#",
    "\u02da": "\u00b0",
    "\u2218": "\u00b0",
    "\u00ba": "\u00b0",
}
_SUPERSCRIPT = {
    **dict(zip("\u2070\u00b9\u00b2\u00b3", "0123", strict=True)),
    **{chr(0x2070 + digit): str(digit) for digit in range(4, 10)},
    "\u207a": "+",
    "\u207b": "-",
    "\u207f": "n",
}  # fmt: skip
_SUBSCRIPT = {chr(0x2080 + digit): str(digit) for digit in range(10)}
_SUPERSCRIPTS = re.compile(f"[{''.join(_SUPERSCRIPT)}]+")
_SUBSCRIPTS = re.compile(f"[{''.join(_SUBSCRIPT)}]+")

_INTEGER = r"[0-9]{1,400}"
_FRACTION = re.compile(
    rf"\\[dtc]?frac\s{{0,9}}(?:\{{\s{{0,9}}([-+]?{_INTEGER})\s{{0,9}}\}}|([0-9]))"
    rf"\s{{0,9}}(?:\{{\s{{0,9}}({_INTEGER})\s{{0,9}}\}}|([0-9]))"
)
_DEGREES = re.compile(
    r"\^\s{0,9}(?:\{\s{0,9}\\circ\s{0,9}\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])"
)
_LATEX_SIGNS = {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "approx": "=", "sim": "=", "to": "=",
    "rightarrow": "=", "Rightarrow": "=", "implies": "=", "equiv": "=",
    "dots": "...", "ldots": "...", "cdots": "...", "colon": ":", "percent": "%",
    "le": "<", "leq": "<", "ge": ">", "geq": ">", "ne": "<", "neq": "<", "lt": "<", "gt": ">",
    "item": "\n",
}  # fmt: skip
# Commands that change how their argument looks and not what it says.
_TRANSPARENT = frozenset(
    "text textbf textit textrm texttt textsf textnormal emph underline mathrm mathbf mathit mathsf"
    " mathtt mathnormal mbox hbox bf it rm bold boldsymbol left right big Big bigg Bigg bigl bigr"
    " displaystyle textstyle large Large boxed fbox begin end center".split()
)
_COMMAND = re.compile(r"\\([A-Za-z]+)\*? ?|\\(.)", re.DOTALL)
# Commands that only lay the text out, and the end of a line with the space that follows it.
_LENGTH = r"-?[0-9.]{1,9}\s{0,3}(?:pt|em|ex|mu|cm|mm|in|pc|bp|sp)"
_LAYOUT = re.compile(
    rf"""
      \\\\(?P<after>\*?(?:\[\s{{0,3}}{_LENGTH}\s{{0,3}}\])?)
    | \\(?:
          (?P<line> newline|par|(?:no)?linebreak(?:\[[0-4]\])?|smallskip|medskip|bigskip)
        | enspace|enskip|q?quad|(?:neg)?(?:thin|med|thick)space|space|nobreakspace
        | textvisiblespace|[hv]fill?|hss|(?:math)?strut|null|relax|(?:allow|no)?break
      )(?![A-Za-z])
    | \\(?:[hvm]space|[hv]?phantom|(?:text)?color)\*?\s{{0,3}}\{{[^{{}}]{{0,99}}\}}
    | \\(?:[hv]skip|m?kern|mskip)\s{{0,3}}{_LENGTH}(?![a-z])
    """,
    re.VERBOSE,
)
# What models are taught to close an answer with: "</answer>", "<|im_end|>", "<br/>".
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9_]{0,20}\s?/?>|<\|[A-Za-z0-9_]{1,30}\|>")
# What math-verify knows under one name only; thousands that a thin space parts.
_SAME_LATEX = (
    (re.compile(r"\\degrees?(?![A-Za-z])"), r"^{\\circ}"),
    (re.compile(r"\\varnothing(?![A-Za-z])"), r"\\emptyset "),
    (re.compile(r"\\mathbb\s{0,3}([A-Z])"), r"\\mathbb{\1}"),
    (
        re.compile(
            r"\\(?:mathrm|mathit|text|textrm|textit)\s{0,3}\{\s{0,3}i\s{0,3}\}"
            r"|\\(?:mathrm|mathit)\s{1,3}i(?![A-Za-z])|\\imath(?![A-Za-z])"
        ),
        " i ",
    ),
    (re.compile(r"(?<=[0-9])\\,(?=[0-9]{3}(?![0-9]))"), ""),
)
# Thousands parted by space, not behind a command such as the one of "\sqrt2 345".
_THOUSANDS = re.compile(
    r"(?<![\w.,\\^])[1-9][0-9]{0,2}(?:[ \u00a0\u2009\u202f~][0-9]{3})+(?![0-9])"
)
_TIE = re.compile(r"(?<=\S)~")  # LaTeX's space; in front of a number "~" says "about"
_TIMES_TEN = re.compile(r"(?<=[0-9])\s?[xX]\s?(?=10\s?\^)")
_EMPHASIS = re.compile(r"(?<![\w)*])(\*{1,3}|_{1,3})(?=[^\s*_])([^*_\n]{1,200})(?<=\S)\1(?![\w(*])")


def plain_text(text: str) -> str:
    r"""The text with one spelling for each number.

    Digits of any script become ASCII ones, dashes and minus signs `-`, spaces of any width plain
    ones, `½` the fraction `1/2` (`2½` the mixed number `2 1/2`), `x³` becomes `x^3`; of LaTeX,
    `\frac{1}{2}` becomes `{1/2}`, `\,` a space, `\text{..}` its content in braces, `\cdot` the sign
    `*`. A command that is not known stays, for a number beside it is no number by itself.
    """
    text = _plain_characters(text)
    text = text.replace("{,}", ",")
    if ">" in text:
        text = _TAG.sub(" ", text)
    if "~" in text:
        text = _TIE.sub(" ", text)
    text = _TIMES_TEN.sub("*", text)
    if "\\" in text:
        text = _LAYOUT.sub(_plain_layout, text)
        text = _DEGREES.sub("\u00b0", text)
        text = _FRACTION.sub(lambda m: f"{{{m[1] or m[2]}/{m[3] or m[4]}}}", text)
        text = _COMMAND.sub(_plain_command, text)
    return _EMPHASIS.sub(r"\2", text) if "*" in text or "_" in text else text


def latex_text(text: str) -> str:
    r"""The text with LaTeX in place of the Unicode characters that stand for it.

    `½` becomes `\frac{1}{2}`, `∞` `\infty`, `2√3` `2\sqrt{3}`, `90°` `90^{\circ}`, `x²` `x^{2}`;
    commands that only lay the text out, such as `\enspace`, become space.
    """
    if "\\" in text:
        text = _LAYOUT.sub(lambda m: " " if m["after"] is None else r"\\", text)
        for pattern, same in _SAME_LATEX:
            text = pattern.sub(same, text)
    text = _THOUSANDS.sub(lambda m: "".join(filter(str.isdigit, m[0])), text)
    if text.isascii():
        return text
    text = _SUPERSCRIPTS.sub(lambda m: f"^{{{_spelt(m[0], _SUPERSCRIPT)}}}", text)
    text = _SUBSCRIPTS.sub(lambda m: f"_{{{_spelt(m[0], _SUBSCRIPT)}}}", text)
    text = _ROOT.sub(_latex_root, text)
    return "".join(map(_latex_character, text))


def _spelt(characters: str, table: dict[str, str]) -> str:
    return "".join(table[character] for character in characters)


def _plain_characters(text: str) -> str:
    if text.isascii():
        return text
    text = _SUPERSCRIPTS.sub(lambda m: f"^{_spelt(m[0], _SUPERSCRIPT)}", text)
    text = _SUBSCRIPTS.sub(lambda m: f"_{_spelt(m[0], _SUBSCRIPT)}", text)
    pieces: list[str] = []
    for character in text:
        piece = _plain_character(character)
        # "2½" is two and a half, not 21 halves, and "½10" no tenth.
        if pieces and piece[:1].isdigit() and pieces[-1][-1:].isdigit():
            if "/" in piece or "/" in pieces[-1]:
                pieces.append(" ")
        if piece:
            pieces.append(piece)
    return "".join(pieces)


@functools.lru_cache(1 << 12)
def _plain_character(character: str) -> str:
    if character.isascii():
        return character
    if character in _PLAIN:
        return _PLAIN[character]
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Pd":
        return "-"
    if category == "Cf":
        return ""
    if category == "Zs":
        return " "
    if category in ("Zl", "Zp") or character == "\x85":
        return "\n"
    # What else has a plain form: full-width signs, "…", and "½" as "1⁄2".
    return unicodedata.normalize("NFKC", character).replace("\u2044", "/")


def _plain_layout(match: re.Match[str]) -> str:
    return " " if match["after"] is None and match["line"] is None else "\n"


def _plain_command(match: re.Match[str]) -> str:
    name, sign = match[1], match[2]
    if sign is not None:
        if sign in "()[]":  # the brackets of a formula, not of a product
            return "{" if sign in "([" else "}"
        return {"\\": "\n", "!": "", "$": "$", "%": "%", "&": " and ", "{": "(", "}": ")"}.get(
            sign, " " if sign in ",;:> \n" else sign
        )
    if name in _LATEX_SIGNS:
        return _LATEX_SIGNS[name]
    return "" if name in _TRANSPARENT else match[0]


_ROOT = re.compile(
    r"([\u221a\u221b\u221c])\s{0,3}(?:([0-9.]{1,50}|[A-Za-z])|\(([^()]{1,200})\)|(\{))?"
)
_ROOT_DEGREE = {"\u221a": "", "\u221b": "[3]", "\u221c": "[4]"}
_LATEX = {
    "\u221e": "\\infty ", "\u00b0": "^{\\circ}", "\u02da": "^{\\circ}", "\u00ba": "^{\\circ}",
    **dict.fromkeys("\u00b7\u22c5\u2219\u2022\u2217", "\\cdot "), "\u00d7": "\\times ",
    "\u00f7": "\\div ", "\u00b1": "\\pm ", "\u2213": "\\mp ",
    **dict.fromkeys("\u2215\u2044", "/"), **dict.fromkeys(_MINUS, "-"),
    "\u2264": "\\le ", "\u2a7d": "\\le ", "\u2265": "\\ge ", "\u2a7e": "\\ge ", "\u2260": "\\ne ",
    "\u2248": "\\approx ", "\u222a": "\\cup ", "\u2229": "\\cap ", "\u2205": "\\emptyset ",
    "\u2208": "\\in ", "\u2209": "\\notin ", "\u2282": "\\subset ", "\u2286": "\\subseteq ",
    "\u2026": "\\ldots ", "\u22ef": "\\cdots ", "\u2220": "\\angle ", "\u25b3": "\\triangle ",
    "\u2032": "'", "\u2033": "''", "\u2019": "'", "\u2192": "\\to ", "\u2216": "\\setminus ",
    "\u211d": "\\mathbb{R}", "\u2124": "\\mathbb{Z}", "\u2115": "\\mathbb{N}",
    "\u211a": "\\mathbb{Q}", "\u2102": "\\mathbb{C}", "\u27e8": "\\langle ", "\u27e9": "\\rangle ",
    "\u230a": "\\lfloor ", "\u230b": "\\rfloor ", "\u2308": "\\lceil ", "\u2309": "\\rceil ",
    **{
        letter: f"\\{name} "
        for letter, name in zip(
            "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
            "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma"
            " tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi"
            " Omega".split(),
            strict=True,
        )
    },
}  # fmt: skip


def _latex_root(match: re.Match[str]) -> str:
    root = f"\\sqrt{_ROOT_DEGREE[match[1]]}"
    if match[4]:
        return root + "{"
    return f"{root}{{{match[2] or match[3] or ''}}}"


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    piece = _plain_character(character)
    top, slash, bottom = piece.partition("/")
    return f"\\frac{{{top}}}{{{bottom}}}" if slash and top and bottom else piece
