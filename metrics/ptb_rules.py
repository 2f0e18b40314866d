r"""The rules of Stanford's PTB tokenizer (CoreNLP 3.4.1), written from its answers to probes.

A rule is a regular expression whose group 1 is the token; what it matches after group 1 is context that must follow and
stays in the text. Of all rules that match at a position the one with the longest match, context included, wins; of
equal ones the first in `RULES`. Lines end in ``\n``, so that context can ask for it.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from metrics.ptb_characters import DIGITS, LETTERS, MARKS, SYMBOLS

ABBREVIATIONS = (  # keep their full stop anywhere
    "adj adm adv alex asst atty attys ave brig capt cf cie cmdr col comdr cpl det dept dr drs elec ens ft gen gov govs "
    "hon insp invt jos lieut lt maj messrs mfg mlle mme mr mrs ms msgr mt mtg natl pfc ph pres prof profs pvt rep reps "
    "rev sen sens sfc sgt spc st ste supt supts vs wm assoc treas"
)
ENDING_ABBREVIATIONS = (  # keep it also before two more characters that would else make one word with them
    "al ala apr ariz assn aug bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est etc ext feb fla fri ga "
    "inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov oct okla penn plc ppte "
    "pptes ppty pptys pte ptes pty ptys rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ va vt wed wis "
    "wisc wyo"
)
CAPITAL_ABBREVIATIONS = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"  # English words or names when in lower case
NUMBER_ABBREVIATIONS = "art ca fig figs no nos op pp prop"  # keep it before a number
# An initial before one of these, in these words or in capitals, ended a sentence: the full stop is not its own.
_STARTS = (
    r"About According Additionally After An As A At But Earlier He Her Here However If In It Last Many More Mr\. Ms\. "
    "Now Once One Other Our She Since So Some Such That Their Then There These They The This We When While What Yet You"
)

# Words of letters only that a rule other than that of words may take
NOT_PLAIN = frozenset(
    f"{ABBREVIATIONS} {CAPITAL_ABBREVIATIONS.lower()} {ENDING_ABBREVIATIONS} {NUMBER_ABBREVIATIONS} "
    "cannot gonna gotta lemme gimme wanna".split()
)


def _either(words: str) -> str:
    return "(?:" + "|".join(words.split()) + ")"


SENTENCE_STARTS = _either(_STARTS + " " + _STARTS.upper().replace("MR", "M[Rr]"))
L, D = f"[{LETTERS}]", f"[{DIGITS}]"
LM, LMD = rf"[{LETTERS}{MARKS}\u00ad]", rf"[{LETTERS}{MARKS}{DIGITS}\u00ad]"
LD = f"[{LETTERS}{DIGITS}]"
APOS = r"(?:['\u0092\u2019]|&apos;)"
APOS_LIKE = r"(?:['`\u0091\u0092\u2018\u2019\u201b]|&apos;)"
HYPHEN = r"[-_\u058a\u2010\u2011]"
WORD = f"{LM}{LMD}*(?:[.!?]{LM}{LMD}*)*"
CLITIC = f"{APOS}(?:[msdMSD]|[rR][eE]|[vV][eE]|[lL][lL])"
NOT = f"[nN]{APOS_LIKE}[tT]"
EXTENSION = _either(
    "bat bmp c class cgi cpp dll doc docx exe gif gz h html? jar java jpeg jpg mov mp3 pdf php pl png ppt ps py sql "
    "tar txt wav x xml zip"
)
ELISION = f"(?:[dDoOlL]{APOS_LIKE}{LD})?"
NUMBER = rf"(?:{D}*(?:[.:,\u00ad\u066b\u066c]{D}+)+|{D}+)"
ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+\."
HYPHENED = f"{ELISION}{LD}+(?:{HYPHEN}{ELISION}{LD}+)*"
DOTTED = rf"[A-Za-z0-9][A-Za-z0-9.,\u00ad]*(?:-(?:{ACRONYM}|[A-Za-z0-9\u00ad]+))+"
CAPITALS = r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+"
SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
HOST = r"""[^ \u00a0\u3000\t\f"`'<>|.!?,\-_$(){}^\n/0-9A-Z:;=@\[\]\\]"""
PATH = r"""/[^ \t\f"<>|()\n]+[^ \t\f"<>|.!?(){},\n-]"""
MAIL = r"""[^ \t\f"<>|(){}.\u00a0\n]"""
FACE = r"[-^x=~<>']"

QUOTES = {"\u0091": "`", "\u0092": "'", "\u0093": "``", "\u0094": "''", "\u2018": "`", "\u2019": "'", "\u201b": "`"}
QUOTES |= {"\u201c": "``", "\u201d": "''", "\u2039": "`", "\u203a": "'", "\u00ab": "``", "\u00bb": "''"}
SIGNS = {"\u00a2": "cents", "\u00a3": "#", "\u0080": "$", "\u00a4": "$", "\u20a0": "$", "\u20ac": "$"}
SIGNS |= {"\u00bc": "1/4", "\u00bd": "1/2", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "&apos;": "'", "&nbsp;": ""}
ENTITIES |= {"&mdash;": "--", "&ndash;": "--", "&md;": "--"}
BRACKETS = {"(": "-LRB-", ")": "-RRB-", "[": "-LSB-", "]": "-RSB-", "{": "-LCB-", "}": "-RCB-"}
_BRACKETS = str.maketrans({key: BRACKETS[key] for key in "()"})


def _keep(text: str) -> str:
    return text.replace("\u00ad", "") or "-"


def _contracted(text: str) -> str:
    return "".join(QUOTES.get(c, c) for c in text.replace("&apos;", "'"))


def _ampersand(text: str) -> str:
    return text.replace("&amp;", "&")


def _face(text: str) -> str:
    return text.translate(_BRACKETS)


def _one_token(text: str) -> str:
    return text.replace(" ", "\u00a0").translate(_BRACKETS)


class Rule(NamedTuple):
    """`match(text, position)`, and how its group 1 is written as a token."""

    match: Callable[[str, int], re.Match[str] | None]
    write: Callable[[str], str]


def _rule(pattern: str, write: Callable[[str], str] = _keep, flags: int = 0) -> Rule:
    return Rule(re.compile(pattern, flags).match, write)


def _abbreviations(words: str, context: str = "", flags: int = re.IGNORECASE) -> Rule:
    return _rule(rf"({_either(words)}\.){context}", flags=flags)


RULES: tuple[Rule, ...] = (
    # mark-up, addresses
    _rule(
        r"(<(?:[!?][A-Za-z-][^>\n]*|/?[A-Za-z][A-Za-z0-9:._-]*(?:[ ]+(?:[A-Za-z][A-Za-z0-9:._-]*"
        r"(?:[ ]*=[ ]*(?:'[^'\n]*'|\"[^\"\n]*\"))?|'[^'\n]*'|\"[^\"\n]*\"|[ ]*/))*[ ]*/?[ ]*)>)",
        lambda text: text.replace(" ", "\u00a0"),
    ),
    _rule(r"(&(?:HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+|Q[Uu][Oo][Tt]|APOS);)"),
    # contractions of two words, of auxiliaries and of "not"
    _rule(r"(can)not", flags=re.IGNORECASE),
    _rule(r"(gon|wan)na", flags=re.IGNORECASE),
    _rule(r"(got)ta", flags=re.IGNORECASE),
    _rule(r"(lem|gim)me", flags=re.IGNORECASE),
    _rule(r"('t)(?:is|was)", flags=re.IGNORECASE),
    _rule(rf"([A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*){NOT}"),
    _rule(f"({WORD}){CLITIC}"),
    _rule(f"({WORD})"),
    _rule(
        rf"({APOS}n{APOS}|[ldj]{APOS}|dunkin{APOS}|somethin{APOS}|ol{APOS}|{APOS}em|c{APOS}mon|{APOS}[2-9]0s|cont'd\."
        rf"|{APOS}till?|{APOS}cause|nor'easter|e'er|s'mores|ev'ry|li'l|nat'l|O{APOS_LIKE}o|cap'n|c'est)",
        flags=re.IGNORECASE,
    ),
    _rule(rf"([A-HJ-XZn]{APOS_LIKE}{L}{{2}}{L}*|{L}+[aeiouyAEIOUY]{APOS_LIKE}[aeiouA-Z]{L}*)"),
    _rule(f"([yY]{APOS})[A-Za-z]"),
    _rule(f"({CLITIC})[^A-Za-z]", _contracted),
    _rule(f"({NOT})", _contracted),
    _rule(r"(')[A-Za-z][^ \n]"),
    _rule(f"({CLITIC})", _contracted),
    _rule(f"({APOS}[nN])"),
    _rule(rf"({APOS}[0-9][0-9])[ \u00a0\n]"),
    _rule(r"(pro-|anti-|-[lr][rcs]b-|c\+\+|[cf]#)", flags=re.IGNORECASE),
    _rule(r"(S(?:&|&amp;)P-500|S(?:&|&amp;)Ls|C\.D\.s|(?:\\\*){1,3})", _ampersand),
    # addresses
    _rule(r"""(https?://[^ \t\f"<>|(){}\n]+[^ \t\f"<>|.!?(){},\n-])""", str, re.IGNORECASE),
    _rule(rf"(www\.(?:[^ \t\f`<>|.!?,\n]+\.)+[a-zA-Z]{{2,4}}(?:{PATH})?)", flags=re.IGNORECASE),
    _rule(rf"((?:{HOST}+\.)+(?:[cC][oO][mM]|[nN][eE][tT]|[oO][rR][gG]|[eE][dD][uU])(?:{PATH})?)"),
    _rule(rf"""((?:&lt;|<)?[a-zA-Z0-9][^ \t\f"<>|(){{}}\u00a0\n]*@(?:{MAIL}+\.)*{MAIL}+(?:&gt;|>)?)""", str),
    _rule(r"(@[A-Za-z_][A-Za-z_0-9]*)"),
    _rule(f"(#{LM}+)", str),
    # numbers
    _rule(f"([-+]?{NUMBER})"),
    _rule(rf"((?:{D}{{1,4}}[- \u00a0])?{D}{{1,4}}(?:\\?/|\u2044){D}{{1,4}})", _one_token),
    _rule(f"({D}{{1,2}}[-/]{D}{{1,2}}[-/]{D}{{2,4}})"),
    _rule(
        r"((?:\([0-9]{2,3}\)[ \u00a0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \u00a0])?[0-9]{2,4}[- \u00a0])"
        r"[0-9]{3,4}[- \u00a0]?[0-9]{3,5})",
        _one_token,
    ),
    _rule(r"((?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5})"),
    _rule(r"([\u207a\u207b\u208a\u208b]?(?:[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+))"),
    _rule(f"([{''.join(SIGNS)}])", SIGNS.__getitem__),
    _rule(r"([A-Z]*\$)"),
    # words with hyphens, slashes and ampersands
    _rule(f"({HYPHENED})"),
    _rule(rf"({SLASHED}(?:\\?/{SLASHED}){{1,2}})"),
    _rule(f"({CAPITALS})", _ampersand),
    # abbreviations
    _rule(rf"({ACRONYM})"),
    _abbreviations(ABBREVIATIONS),
    _abbreviations(r"Ph\.D Ed\.D", r"[\s\S]{1,2}"),
    _abbreviations(ENDING_ABBREVIATIONS, r"[\s\S]{1,2}"),
    _abbreviations(CAPITAL_ABBREVIATIONS + " " + CAPITAL_ABBREVIATIONS.upper(), r"[\s\S]{1,2}", flags=0),
    _rule(f"({DOTTED})"),
    _abbreviations(NUMBER_ABBREVIATIONS, rf"[ \u00a0\n]*{D}"),
    _rule(rf"([A-Za-z])\.[ \u00a0\n]+{SENTENCE_STARTS}[ \n]"),
    _rule(r"([A-Za-z]\.)"),
    # a full stop before a comma belongs to the word
    _rule(rf"((?:{WORD}|{HYPHENED}|{DOTTED}|{CAPITALS}|{NUMBER})\.)[,;:\u3001]", _ampersand),
    _rule(rf"({LD}+(?:\.{LD}+)*\.{EXTENSION})[ \n.,?!]", flags=re.IGNORECASE),
    # faces, quotes, marks
    _rule(r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])[^A-Za-z0-9]", _face),
    _rule(rf"(\({FACE}[_.]?{FACE}\)|\([\^x=~<>']-[\^x=~<>'`]\)|{FACE}_{FACE})", _face),
    _rule(f"([{''.join(QUOTES)}\u201a\u201e\u201f`]{{1,2}})", _contracted),
    _rule("(''?|\")", lambda text: "'"),
    _rule(r"([(){}\[\]])", BRACKETS.__getitem__),
    _rule(r"(-{2,4}|[\u0096\u0097\u2013-\u2015])", lambda text: "--"),
    _rule(r"(\.{3,5}|\.(?:[ \u00a0]\.){2,4}|[\u0085\u2026])", lambda text: "..."),
    _rule(r"([!?]+|\*+|#+|@+|_+|-{5,}|<<|>>)"),
    _rule(f"({'|'.join(ENTITIES)})", lambda text: ENTITIES[text.lower()], flags=re.IGNORECASE),
    _rule(rf"([!-/:-@\[-`|~{SYMBOLS}{DIGITS}{LETTERS}{MARKS}\u2044])"),
)


def next_token(text: str, position: int) -> tuple[str, int]:
    """The token that starts at `position` ("" for a character that is dropped), and where it ends."""
    best, longest, write = None, 0, RULES[0].write
    for rule in RULES:
        found = rule.match(text, position)
        if found and found.end() - position > longest:
            best, longest, write = found, found.end() - position, rule.write
    if best is None:
        return "", position + 1
    return write(best[1]), best.end(1)
