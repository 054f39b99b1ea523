"""The words of English prompts: each word or phrase that the grammar of prompts knows has a class, a letter.

`genrec.serving.prompt_grammar` states its patterns over these letters. A word that is in no class, and names no value
of the catalogue, is UNKNOWN.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

VALUE, UNKNOWN, QUOTED = "V", "U", '"'
BREAK, QUESTION, COMMA, COLON = ".", "?", ",", ":"  # a dash is a colon

OTHERS_REFUSE = "hates|dislikes|detests|loathes|despises|refuses".split("|")
# Negations that refuse nothing: they often ask for what they name.
AFFIRMATIONS = (
    "not just|not only|not merely|not solely|not exclusively|not simply|why not|why do not we|why do not you|"
    "why not go with|why not try|do not mind|would not mind|can not get enough of|could not get enough of|"
    "never get enough of|nothing beats|nothing better than|never enough|never too much|can not go wrong with|"
    "never go wrong with|not go wrong with|would not say no to|never say no to|will not say no to|never gets old|"
    "never get old|"
    "never disappoints|never disappoint|do not stop|do not stop playing|never stop playing|do not forget|"
    "who does not love|who does not like|have no objection to|no objection to|no objections to|would not hurt|"
    "can not wait for|can not wait to hear|can not live without|is not there|are not there|do not know|"
    "do not know much about|nothing against|never mind|not bad|no worries|no problem|no rush|no hurry|"
    "no pressure"
).split("|")
# Letter -> its words and phrases, "|" between them. Contractions are written in full: "can not", "i am".
_CLASSES = {
    # Determiners, and those of some particular items ("this podcast"), of which nothing follows for all of them.
    "d": "either|a|an|the|some|any|all|all the|more|another|every|that|those|such|lots of|a lot of|plenty of|a few|"
    "a bit of|a little|much|many|two|three|four|five|kind of|kinds of|sort of|sorts of|type of|types of|form of|"
    "bunch of|any kind of|any sort of|entire|whole|piece of|couple of|all of",
    "D": "last week's|last night's|last month's|this week's|this|these|my|your|its|our|their|most|several|certain|"
    "half|both|each|one of",
    "g": "something|anything|everything|whatever|whichever|things|thing|stuff|one|ones|content|item|items|titles|"
    "material|else|anyone|anybody|somebody|someone|everyone|everybody",
    "G": "song|songs|track|tracks|tune|tunes|album|albums|episode|episodes|show|shows|story|stories|book|books|series|"
    "playlist|playlists|mix|sounds|vibes|voice|voices|lyrics|language",
    "j": "new|newer|newest|old|older|good|better|best|great|nice|fine|short|shorter|long|longer|quiet|quieter|loud|"
    "relaxing|upbeat|funny|slow|fast|fresh|soft|happy|popular|latest|recent|classic|classical|interesting|"
    "instrumental|acoustic|live|chill|light|modern|soothing|peaceful|mellow|cheerful|energetic|gentle|lovely|cool|"
    "different|similar|other|same|favorite|favourite|random|decent|proper|real|little|big|deep|exciting|fun|easy|"
    "ambient|background|clean|uplifting|inspiring|calming|thrilling|entertaining|amusing|gripping|touching|moving|"
    "charming|amazing|outstanding|english|german|french|spanish|italian|american|british|famous|unknown|smart|serious|"
    "heavy|scary|hard|free",
    # Words that change nothing: hedges, politeness, time.
    "h": "please|after all|preferably|ideally|maybe|perhaps|possibly|now|today|tonight|again|then|really|very|so|too|"
    "also|as well|ok|okay|hey|hi|hello|thanks|thank you|kindly|actually|instead|rather|well|oh|um|uh|hmm|yes|yeah|yep|"
    "sure|just|simply|right now|right away|for now|for today|for tonight|for once|for a while|for a change|for a bit|"
    "this time|at all|anymore|any more|any longer|no matter what|ever|ever again|whatsoever|in it|in there|in here|"
    "bro|dude|mate|buddy|folks|guys|alexa|siri|google|computer|in the list|in my list|at the moment|for the moment|"
    "for the time being|this morning|this evening|this afternoon|this week|these days|on my way home|at home|"
    "if you can|if possible|if you could|if you do not mind|if you please|if i may|for me|to me|for us|for him|"
    "for her|for them|for my kids|with me|here|i think|i guess|i believe|i said|i told you|as i said|like i said|"
    "i mean|i mean it|you know|by the way|honestly|frankly|seriously|personally|definitely|absolutely|always|still|"
    "even|quite|pretty|a bit|a little bit|totally|completely|clearly|would be nice|would be great|would be good|"
    "would be fine|would be lovely|would be perfect|first|next|finally|my friend|dear|sorry|excuse me|"
    "from my recommendations|from my suggestions|from my list|from my queue|from my feed|from the list|from the mix|"
    "on second thought|for heaven s sake|for god s sake|to be honest|once|once more|as usual|anyway|anyhow",
    "o": "only|solely|exclusively|strictly|purely|nothing but|nothing except|nothing other than|nothing besides|"
    "nothing else but|nothing else than|nothing else|and nothing else|none but|no one but|nobody but|no one except|"
    "nobody except|and that is it|alone",
    "i": "i|we|me|us",
    "t": "it|them|there|those ones|these ones",
    "y": "you",
    "X": "am|is|are|be|do|does|will|would|can|could|should|may|might|must|shall|have|has|been|being",
    # Wanting, and doing.
    "w": "want|need|would like|would love|would prefer|would rather|would rather have|feel like|am in the mood for|"
    "in the mood for|up for|am up for|am looking for|looking for|am searching for|searching for|am after|fancy|"
    "am craving|craving|crave|could do with|could use|am ready for|ready for|wish for|hoping for|game for|hungry for|"
    "ask for|asking for|insist on|make it|let there be|it should be|it must be|it has to be|should be|must be|"
    "has to be|let it be|i will take|i will have|i would go for|could go for|would take|keep it|stay with|stick to|"
    "stick with|switch to|change to|change it to|back to|go back to|go with|go for|continue with|start with|"
    "surprise me with|hit me with|skip to|skip ahead to|skip forward to|yes to|bring on",
    "v": "play|play me|listen to|give me|give us|show me|show us|put on|recommend|recommend me|suggest|bring me|queue|"
    "queue up|let me hear|let me have|let us hear|let us have|let us listen to|let us try|let us do|let us go with|"
    "stream|offer|offer me|send me|serve me|throw on|try|pick|choose|select|look for|search|search for|find me|"
    "find us|get me|get us|fetch me|keep playing|start|tell me|display|include|pick out|watch|read",
    "x": "find|get|see|hear",
    "L": "playing|listening to|hearing|giving me|showing me|recommending|suggesting|sending me|sending|offering|"
    "offering me|streaming|getting|bringing me|putting on|seeing|reading|giving|showing|pushing|repeating|feeding me|"
    "bothering me with|serving me|wasting time on|wasting time with|recommending me|hearing about",
    "l": "love|enjoy|adore|into|in to|a fan of|fan of|a big fan of|big fan of|fond of|keen on|interested in|big on|"
    "crazy about|care for|appreciate|prefer|get into|a lover of|much of a fan of",
    "K": "how about|what about|time for|it is time for",
    "H": "can you|could you|would you|will you|can we|could we|can i|could i|may i|may we|might i|would you mind|"
    "would you please|you should|you must|you can|you could|you may|you need to|you have to|you had better|it should|"
    "it must|it can|it may|there should be|there must be|there shall be|there can be|let us|let me|please let|"
    "want you to|need you to|would like you to|would rather you|as long as it is|so long as it is|as long as they are|"
    "provided it is|we should|i should|make sure it is|make sure there are|make sure there is|try to|i ask you to|"
    "i beg you to|feel free to|be so kind to",
    "A": "do you have|have you got|is there|are there|do we have|got|what else is there|have you any",
    "B": "by|from|by the artist|by an artist called|by someone called|of the artist",
    "a": "about|on|on the subject of|on the topic of|regarding|concerning|dealing with|that deals with|that deal with|"
    "that is about|that are about|covering",
    "W": "with|featuring|including|containing|involving|starring",
    "O": "of",
    "T": "to",
    "f": "for|in|at|under|than|like|as|through|during|before|after|between|near|around|up|via|within|towards|over|"
    "above|below|across|past|versus|vs",
    "r": "that is|that are|which is|which are|who is|who are|that s|that do|that does|that has|that have|that i|"
    "which i|that contain|that contains|that involves|that involve",
    "c": "and|or|nor|and also|or even|and or|and then",
    "b": "but|yet|however",
    "Y": "because|since|while|although|though|even though|until|till|so that|as i|cause",
    # Conditions; reports; the past; others; questions. No rule comes of them.
    "F": "as much as|much as|if|unless|when|whenever|whether|in case|supposing|suppose|were i|had i|otherwise|if only|"
    "imagine|assuming",
    "R": "said|says|say|told|tells|thinks|think|claims|claim|reckons|believes|asked|asks|wrote|heard that|"
    "according to|insists|mentioned|recommends|suggests|suggested|recommended|titled|called|named|quote",
    "z": "was|were|did|had|wanted|hated|heard|played|listened|listened to|liked|loved|disliked|enjoyed|used to|"
    "already|yesterday|ago|last year|stopped|skipped|needed|preferred|tried|finished|back then|before that|"
    "once upon a time|have been|has been|would have|could have|should have|got tired|grew up|in the past|formerly|"
    "earlier|wish",
    "P": f"{'|'.join(OTHERS_REFUSE)}|he|she|they|him|his|hers|her|everyone else|people|someone else|nobody else|"
    "somebody else",
    "q": "why|whose|whom|where|how|how come|what|which|who|how many|how much|what if",
    # Refusing. "no" and its like stand before a noun, "not" and its like before anything.
    "N": "no|zero|nothing|without|none of|none of the|neither|no more|no more of|no further|sans|not one|none|0|"
    "not a single|no kind of|no sort of|no type of|no such|nothing more|no longer any|free of|free from",
    "n": "not|never|never ever|no longer|not any|not any more|not another|not anymore|rather not|by no means|"
    "under no circumstances|in no way",
    "Z": "nope|as if|nah|goodbye|bye|bye bye|farewell|so long|rip|oh great|oh joy|oh wonderful|no thanks|no thank you|"
    "no way|hell no|hard pass|pass|yuck|ugh|eww|ew|maybe later|omg|oh god|oh my god|god|jeez|good grief|oh come on|"
    "come on|not today|not now|not tonight|not again|not interested|no interest|not a fan|not for today|thumbs down|"
    "no chance|never again|rather not please|of all things|of all places",
    "m": "hate|that is enough|that is enough of|have gone off|go off|detest|loathe|despise|dislike|abhor|resent|"
    "can not stand|could not stand|can not bear|can not take|can not handle|can not abide|can not tolerate|"
    "can not deal with|can not listen to|can do without|could do without|do without|can live without|"
    "could live without|avoid|skip|skip over|skip past|skip all|stop|stop with|quit|exclude|omit|remove|ditch|ban|"
    "block|hide|mute|drop the|lose the|cut the|kill the|hold the|leave out|leave off|leave away|filter out|cut out|"
    "take out|throw out|weed out|rule out|keep out|spare me|spare us|save me from|spare me from|protect me from|"
    "stay away from|keep away from|keep me away from|steer clear of|stay clear of|get rid of|rid me of|be rid of|"
    "pass on|pass over|forget|forget about|enough|enough of|enough with|had enough|had enough of|heard enough|"
    "heard enough of|have enough|have had enough|have had enough of|have heard enough|have heard enough of|"
    "had it with|have had it with|had my fill of|have had my fill of|had too much|have had too much|have had too many|"
    "sick of|sick and tired of|sick to death of|tired of|tired with|bored of|bored with|bored by|fed up with|"
    "fed up of|weary of|done with|am over|am so over|so over|through with|finished with|allergic to|annoyed by|"
    "annoyed with|annoyed at|against|averse to|refuse|reject|turn off|turn off the|switch off|shut off|shut up|"
    "do away with|away with|down with|to hell with|screw|no thanks to|no to|say no to|no interest in|"
    "have no interest in|zero interest in|no time for|have no time for|no patience for|have no patience for|"
    "no need for|have no need for|no use for|have no use for|no fan of|a hater of|lost interest in|"
    "have lost interest in|the last thing i want is|the last thing i need is|never liked|never cared for|"
    "have never liked|do not care for|cease|can not be bothered with|put off by|overdosed on|disinterested in|"
    "uninterested in|scratch the|nix|boycott|not a fan of|not interested in|skipping|avoiding|leaving out|omitting|"
    "removing|problem with|mind|reason not to|objection to|wrong with|quit it with|stop it with|enough already with|"
    "knock it off with|cool it with|cut it out with|give it a rest with|lay off|lay off of|ease off|ease up on|"
    "back off|hold off on|hold off with|go without|swap out|toss out|chuck out|phase out|had it up to here with|"
    "have had it up to here with|fed up to here with|up to here with|had my share of|have had my share of|"
    "had a bellyful of|have had a bellyful of|need a break from|take a break from|want a break from|"
    "could use a break from|refrain from|in no mood for|am in no mood for|could not care less about|"
    "need a rest from|burnt out on|burned out on|worn out by|worn out from|sick to the back teeth of|can not stomach|"
    "can not face|can not be doing with|not in the mood for|no appetite for|have no appetite for|no room for|"
    "no desire for|have no desire for|no wish for|no love for|have no love for|not a lover of|keep clear of|"
    "keep me clear of|steer me away from|keep me from|spare my ears|deliver me from|move on from|moving on from|"
    "have moved on from|move away from|grown tired of|have grown tired of|growing tired of|getting tired of|"
    "getting sick of|am off|gone off|scrap|scrap the|dump the|axe|can the|bin the|purge|banish|outlaw|veto|eliminate|"
    "discard|dismiss|shun|overdone|saturated with|drowning in",
    "M": "boring|annoying|awful|terrible|horrible|horrid|dull|bad|tedious|tiresome|irritating|unbearable|intolerable|"
    "insufferable|unwanted|undesired|forbidden|banned|off limits|off the table|out of the question|overrated|"
    "a waste of time|waste of time|the worst|worst|rubbish|garbage|trash|crap|crappy|lame|stupid|pointless|painful|"
    "torture|a bore|a pain|dreadful|ghastly|lousy|hateful|exhausting|unpleasant|tacky|stale|ridiculous|useless|out|"
    "not for me|not my thing|not really my thing|not my cup of tea|not my taste|not my style|not my jam|"
    "not what i want|not what i need|not what i am after|not what we want|not what i feel like|not what i fancy|"
    "not what i am looking for|not interesting|not welcome|not wanted|not allowed|bores me to tears|bore me to tears|"
    "the last thing i want|the last thing i need|gives me a headache|give me a headache|"
    "not ok|not okay|not an option|not acceptable|not needed|not necessary|not appreciated|bore me|bores me|annoy me|"
    "annoys me|irritate me|irritates me|suck|sucks|stink|stinks|disgust me|disgusts me|get on my nerves|"
    "gets on my nerves|drive me crazy|drives me crazy|drive me mad|drives me mad|drive me nuts|drives me nuts|"
    "make me sick|makes me sick|leave me cold|leaves me cold|do not interest me|does not interest me|"
    "do nothing for me|does nothing for me|can wait|must go|have to go|has to go|need to go|should go|no good|"
    "too boring|nonsense",
    # Refusing by exception: of something named before, of anything; instead of something; as likely an addition.
    "e": "except|except for|excepting|excluding|with the exception of|minus|save for|barring|bar|but not|anything but|"
    "everything but|all but|anyone but|anybody but|everyone but|any but|whatever but|anything bar|anything except|"
    "anything except for|unlike",
    "E": "instead of|rather than|in place of|in lieu of|as opposed to",
    "C": "other than|besides|beside|apart from|aside from|beyond|in addition to|on top of|outside of|as well as",
    "s": "less|fewer|so much|so many|not so much|not so many|too much|too many|way too many|way too much|not too much|"
    "not too many|not that much|not that many|not many|not much|hardly|hardly any|barely|barely any|scarcely|rarely|"
    "seldom|only a few|a little less|a bit less|somewhat less|much less|few|cut down on|go easy on|tone down|reduce|"
    "limit|minimal|fewer of|less of|occasionally|sometimes",
    # Negations of which no refusal follows.
    "u": f"{'|'.join(AFFIRMATIONS)}|"
    "like i|like a hole in the head|not all|not every|not always|not necessarily|not yet|not sure|not sure if|"
    "no idea|no clue|no doubt|no matter|no wonder|no offense|no offence|no kidding|do not care|can not|could not|"
    "down|gone|to go|to go away|to stop|to end|to disappear|to vanish|to leave|to die|there is no|there are no|"
    "is there no|are there no|have no|has no|do not have|nothing like|nothing more than|nothing less than|"
    "not the only|no less than|not until|nothing wrong|not to mention|if not|whether or not|believe it or not|"
    "more often than not|not enough|good enough|long enough|enough to|ban on|will not stop|more or less|"
    "none the less|nonetheless|no such thing as|no end of|no shortage of|no other|not other|not different|"
    "not against|do not worry|not exactly|not quite|not that i|worse than|not unlike|not without|nevermind|"
    "not as|not so|not half|not nothing|but also|not even",
    # Verbs that refuse with a particle after the object: "leave podcasts out". A particle alone makes no rule.
    "p": "leave|cut|filter|take|turn|switch|shut|rule|weed|throw|kick|keep|put",
    "k": "off|away|aside",
}
# Of refusing and doubting. A clause with more than one of them makes no rule.
NEGATIVE = "nNmMesuZECk"
BLOCKING = "qFRzPy"
NEW_PHRASE = ("some", "more", "something", "another", "a lot of", "lots of", "plenty of")  # begin no further refusal
ASKING = ("please", "instead", "thanks", "thank you", "rather", "then")

_NEGATED = "do does did is are was were have has had could would should must need"
_SHORT = {f"{base}nt": f"{base} not" for base in _NEGATED.split()} | {
    short: full
    for short, _, full in (
        entry.partition(": ")
        for entry in (
            "cant: can not|wont: will not|shant: shall not|aint: is not|dnt: do not|donot: do not|cannot: can not|"
            "im: i am|ive: i have|id: i would|wanna: want to|gimme: give me|lemme: let me|gonna: will|thats: that is|"
            "theres: there is|whats: what is|lets: let us|theyre: they are|youre: you are|youve: you have|"
            "dunno: do not know|pls: please|plz: please|thx: thanks|nothin: nothing|somethin: something|non: no|"
            "whithout: without|w/o: without|w/: with"
        ).split("|")
    )
}
_ENDINGS = {"m": "am", "re": "are", "ve": "have", "d": "would", "ll": "will"}
_IS = "that it there what he she who here how where everything anything nothing which".split()
_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032\uff07`\u00b4", "'"))
_PIECES = re.compile(
    r"""["\u201c\u201d\u201e\u00ab\u00bb](?P<quoted>[^"\u201c\u201d\u201e\u00ab\u00bb\n]+)["\u201c\u201d\u00ab\u00bb]"""
    r"|(?<!\w)'(?P<single>[^'\n]+)'(?!\w)"
    r"|(?P<word>w/o?(?!\w)|\d+/\d+|[^\W_]+(?:['.&][^\W_]+)*)"
    r"|(?P<happy>[:;=]-?[)\]D](?!\w))|(?P<unhappy>[:;=]['-]?[(\[/\\|](?!\w))"
    r"|(?P<line>\n)|(?P<break>\.+|[;:()\[\]\u2026\u2013\u2014|]|!(?!\w)|(?<=\w)-(?=\s)|(?<=\s)-(?=\s))|(?P<question>[?\u00bf]+)"
    r"|(?P<comma>,)|(?P<conjunction>[/&])|(?P<hyphen>(?<=\w)[-\u2010\u2011](?=\w))|(?P<apostrophe>')|(?P<symbol>[^\s])"
)


REFUSING_SYMBOLS = tuple("!-~\u26d4\u274c\u2716\u2717\u2718\U0001f44e\U0001f6ab")


class Word(NamedTuple):
    """A word, a punctuation mark or a quotation, in the form in which it is looked up."""

    text: str
    start: int  # its place in the prompt
    stop: int
    letter: str = ""  # of punctuation, quotations and symbols
    glued: bool = False  # a hyphen joins it to the word before


def words(text: str) -> list[Word]:
    """Returns the words and punctuation of a text, in lower case, contractions in full."""
    found: list[Word] = []
    glued = False
    for piece in _PIECES.finditer(text.translate(_APOSTROPHES)):
        kind, start, stop = piece.lastgroup, *piece.span()
        match kind:
            case "word":
                parts = _in_full(unicodedata.normalize("NFKC", piece[0]).casefold())
                if parts == ["t"] and found and found[-1].text + "t" in _SHORT:  # "don t"
                    parts, start = _SHORT[found[-1].text + "t"].split(), found.pop().start
                found += [Word(part, start, stop, "", glued and n == 0) for n, part in enumerate(parts)]
            case "quoted" | "single":
                found.append(Word(piece[kind].strip(), start, stop, QUOTED))
            case "comma":
                found.append(Word(",", start, stop, COMMA))
            case "question":
                found.append(Word("?", start, stop, QUESTION))
            case "conjunction":
                found.append(Word("or", start, stop))
            case "break" | "line":
                found.append(Word(piece[0], start, stop, BREAK if piece[0] in (".", ";", "|", "!", "\n") else COLON))
            case "symbol" | "unhappy":
                found.append(Word(piece[0], start, stop, "u" if piece[0] in REFUSING_SYMBOLS else UNKNOWN))
        glued = kind == "hyphen"
    return found


def key_of(text: str) -> tuple[str, ...]:
    """Returns the words of a value, as `words` finds them."""
    plain = text.lower().split()
    if text.isascii() and text.replace(" ", "").isalnum() and not any(word in _SHORT for word in plain):
        return tuple(plain)  # fast, for a hundred thousand artists
    return tuple(word.text for word in words(text))


def _in_full(word: str) -> list[str]:
    if word not in _WORDS and re.search(r"(\w)\1\1", word):  # "nooo"
        once, twice = (re.sub(r"(\w)\1\1+", letters, word) for letters in (r"\1", r"\1\1"))
        word = next((known for known in (once, twice) if known in _WORDS or known in _SHORT), word)
    bare = word.replace("'", "")
    if bare in _SHORT and (bare != "id" or "'" not in word):
        return _SHORT[bare].split()
    head, apostrophe, ending = word.rpartition("'")
    if apostrophe and ending in _ENDINGS:
        return [head, _ENDINGS[ending]]
    if apostrophe and ending == "s" and head in _IS:
        return [head, "is"]
    if word == "let's":
        return ["let", "us"]
    return [word]


def _phrases() -> Iterator[tuple[tuple[str, ...], str]]:
    for letter, listed in _CLASSES.items():
        for phrase in listed.split("|"):
            yield tuple(phrase.split()), letter


LETTERS = dict(_phrases())
_LONGEST: dict[str, int] = {}
for _phrase in LETTERS:
    _LONGEST[_phrase[0]] = max(_LONGEST.get(_phrase[0], 0), len(_phrase))
_WORDS = frozenset(word for phrase in LETTERS for word in phrase)
# Words of the grammar alone. A value that has no others, such as an artist named Yes, has to be marked as one.
GRAMMAR = frozenset(word for phrase, letter in LETTERS.items() if letter not in "jgG" for word in phrase)


def letter_at(found: Sequence[Word], place: int) -> tuple[str, int]:
    """Returns the class of the longest phrase that begins at a word, and how many words it has; UNKNOWN and 1 if none.

    Numbers are determiners, genitives ("last week's") those of particular items.
    """
    if found[place].letter:
        return (UNKNOWN if found[place].letter == QUOTED else found[place].letter), 1
    first = found[place].text
    if first == "no" and place + 1 < len(found) and found[place + 1].text.isdecimal():
        return "j", 2  # "the no 1 podcasts"
    for length in range(min(_LONGEST.get(first, 0), len(found) - place), 0, -1):
        phrase = found[place : place + length]
        if any(word.letter for word in phrase):
            continue
        if letter := LETTERS.get(tuple(word.text for word in phrase)):
            return letter, length
    if first.isdecimal():
        return "d", 1
    if _is_misspelt_refusal(first):
        return "u", 1
    return ("D" if first.endswith("'s") else UNKNOWN), 1


_REFUSALS = "except|excluding|exclude|without|nothing|never|hate|skip|instead|besides|neither|avoid|dislike|enough"


def _shorter(word: str) -> set[str]:
    """Returns a word, and all that are left of it without one letter."""
    return {word, *(word[:place] + word[place + 1 :] for place in range(len(word)))}


_ALMOST_REFUSALS = {word: _shorter(word) for word in _REFUSALS.split("|")}


def _is_misspelt_refusal(word: str) -> bool:
    """Returns whether a word lacks a letter of a refusal, has one too many, or two in the wrong order."""
    return len(word) > 2 and any(
        word in shorter
        or refusal in (less := _shorter(word))
        or (len(word) == len(refusal) and sorted(word) == sorted(refusal) and less & shorter)
        for refusal, shorter in _ALMOST_REFUSALS.items()
        if abs(len(word) - len(refusal)) < 2
    )


# Function words of other languages that are no English words, by language; those that refuse.
_FOREIGN_REFUSALS = frozenset(
    "kein keine keinen keinem keiner keines nicht niemals ohne nichts außer weder pas jamais aucun aucune rien "
    "sauf nunca ningun ningún ninguna tampoco excepto nessun nessuna niente senza tranne geen niet zonder nooit "
    "niets behalve nenhum nenhuma não nao sem exceto ingen inga inget inte utan aldrig ikke uden uten aldri "
    "żadnych zadnych semmi ilman yok hayir değil fara fără".split()
)
_FOREIGN = _FOREIGN_REFUSALS | frozenset(
    "ich er sie wir ihr das der dem den ein eine einen einem einer und oder aber nur mit von für fur auf ist sind "
    "bitte mehr etwas möchte moechte spiel spiele gib zeig hören hoeren über ueber wie hasse liebe auch heute je "
    "tu elle nous vous la une ou mais seulement avec de du des pour veux voudrais donne écouter ecouter plus "
    "quelque chose que qui est sont suis moi mon aime déteste deteste juste yo el los las unos y pero sólo quiero "
    "quisiera dame pon poner algo más escuchar gusta odio del io gli uno ma soltanto di da che voglio vorrei "
    "dammi metti ascoltare qualcosa più sono eu uma só com gosto gostaria toque tocar ouvir mais ik jij het een "
    "maar alleen wil graag speel geef luisteren iets meer naar jag och eller med vill spela lyssna något mer jeg "
    "og spille høre noe chcę chce tylko proszę prosze muzykę lub".split()
) - {"plus", "la", "de", "du", "el", "los", "las", "y", "da", "den", "uno", "toque", "mon", "gosto", "sie"}


def is_foreign(texts: list[str]) -> bool:
    """Returns whether words of a prompt, without values of the catalogue, are of a language other than English.

    They are if one refuses in another language, if one has letters that are not Latin, or if at least as many are
    function words of other languages as words of `GRAMMAR`.
    """
    if any(text in _FOREIGN_REFUSALS for text in texts):
        return True
    if any(character.isalpha() and not _is_latin(character) for text in texts for character in text):
        return True
    foreign = sum(text in _FOREIGN for text in texts)
    return foreign > 0 and foreign >= sum(text in GRAMMAR for text in texts)


def _is_latin(character: str) -> bool:
    return character.isascii() or unicodedata.name(character, "LATIN").startswith(("LATIN", "FEMININE", "MASCULINE"))
