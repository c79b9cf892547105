//! The word lists of the guards. All lower case; English where nothing else is said.
//!
//! Lists hold classes of the language, not words of any one data set: closed classes in full (weekdays, prepositions),
//! open ones by the members everyday questions use. A missing word makes a guard pass, a wrong one costs a hit.

/// Words that carry no topic: articles, pronouns, auxiliaries, prepositions, question words, courtesies, fillers.
pub(super) const STOP: &str = "a an the this that these those there here i me my mine myself you your yours yourself he him his she \
    her hers it its we us our ours they them their theirs who whom whose which what when where why how whats wheres hows whos im ive id \
    am is are was were be been being isnt arent s t re ve ll d m do does did doing done have has had having can could will would shall should may \
    might must of to in on at by for with from into onto until till til about as than then if or and but so because while although per via \
    up out off over under again some any all each every both either few more most other such only own same too very just \
    also ever please pls plz hi hello hey hiya dear morning afternoon evening good thanks thank thx cheers ta kindly ok okay um uh \
    er erm hmm well like now tell know want need wish let lets get got give show help looking look possible able actually basically \
    quick quickly question wondering wonder anyone someone something there's what's how's who's where's i'm i'd i'll i've it's \
    let's you're we're they're that's not no don't doesn't didn't isn't aren't can't cannot couldn't won't wouldn't shouldn't \
    haven't hasn't hadn't wasn't weren't";

/// Cues that turn a statement round.
pub(super) const NEGATION: &str = "not no never none nobody nothing nowhere neither nor cannot without except excluding excepting \
    unless avoid avoids avoided avoiding stop stops stopped stopping prevent prevents prevented preventing unable refuse refuses \
    refused refusing ban bans banned prohibit prohibits prohibited forbid forbids forbidden hardly barely rarely seldom scarcely \
    dont doesnt didnt isnt arent wasnt werent cant couldnt wont wouldnt shouldnt mustnt havent hasnt hadnt aint neednt lacks lacking \
    nicht kein keine keinen keinem keiner nie niemals ohne pas jamais aucun aucune rien nunca jamás ningún ninguna não nem nenhum \
    nenhuma sem niet geen nooit zonder nessun nessuno nessuna senza inte aldrig utan nie bez değil не нет без никогда нельзя \
    不 没 沒 未 無 无 勿 别 莫";

/// Cues of other languages that are also words of English or its borrowings: counted only where the language is known.
pub(super) const NEGATION_ELSEWHERE: &[(super::language::Language, &str)] = &[
    (super::language::Language::French, "sans non"),
    (super::language::Language::Spanish, "sin nada"),
    (super::language::Language::Italian, "non mai"),
];

/// Phrases in which a cue negates nothing: a courtesy, a hedge, or the asker's ignorance.
pub(super) const NOT_NEGATION: &[&str] = &[
    "can't find",
    "cant find",
    "cannot find",
    "can not find",
    "couldn't find",
    "can't locate",
    "cannot locate",
    "can't figure out",
    "cannot figure out",
    "don't know why",
    "don't know if",
    "don't know which",
    "don't know when",
    "don't know who",
    "don't know how",
    "dont know how",
    "don't know what",
    "don't know where",
    "do not know how",
    "don't understand",
    "dont understand",
    "do not understand",
    "not sure",
    "not certain",
    "don't mind",
    "dont mind",
    "no problem",
    "no idea",
    "no worries",
    "no rush",
    "or not",
    "why not",
    "not only",
    "bus stop",
    "stop by",
];

/// Words one of which excludes the others. A line is a group, `|` stands between members, blanks between spellings of
/// one member, `_` joins two words. Words are matched by stem. In a group that begins with `!` a member also excludes
/// silence: a question about somebody else is not one about the asker.
pub(super) const CONTRASTS: &str = include_str!("contrasts.txt");

/// Prefixes that negate the rest of the word.
pub(super) const NEGATING_PREFIXES: [&str; 10] = ["un", "in", "im", "il", "ir", "dis", "non", "de", "mis", "anti"];

/// Pairs of prefixes (or first parts) that turn one word into its opposite.
pub(super) const PREFIX_PAIRS: [(&str, &str); 23] = [
    ("up", "down"),
    ("in", "out"),
    ("in", "ex"),
    ("im", "ex"),
    ("en", "dis"),
    ("en", "de"),
    ("over", "under"),
    ("hyper", "hypo"),
    ("pre", "post"),
    ("ante", "post"),
    ("pro", "anti"),
    ("pro", "con"),
    ("inter", "intra"),
    ("macro", "micro"),
    ("maxim", "minim"),
    ("multi", "single"),
    ("mono", "poly"),
    ("homo", "hetero"),
    ("for", "back"),
    ("on", "off"),
    ("step", "grand"),
    ("some", "no"),
    ("any", "no"),
];

/// Pairs of endings that turn one word into its opposite or its counterpart.
pub(super) const SUFFIX_PAIRS: [(&str, &str); 4] = [("ful", "less"), ("er", "ee"), ("or", "ee"), ("proof", "able")];

/// Cardinal numbers below a hundred, in words. "One" is left out: it is mostly a pronoun.
pub(super) const CARDINALS: &[(&str, u64)] = &[
    ("zero", 0),
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
    ("ten", 10),
    ("eleven", 11),
    ("twelve", 12),
    ("thirteen", 13),
    ("fourteen", 14),
    ("fifteen", 15),
    ("sixteen", 16),
    ("seventeen", 17),
    ("eighteen", 18),
    ("nineteen", 19),
    ("twenty", 20),
    ("thirty", 30),
    ("forty", 40),
    ("fifty", 50),
    ("sixty", 60),
    ("seventy", 70),
    ("eighty", 80),
    ("ninety", 90),
    ("dozen", 12),
    ("zwei", 2),
    ("drei", 3),
    ("vier", 4),
    ("fünf", 5),
    ("deux", 2),
    ("trois", 3),
    ("quatre", 4),
    ("cinq", 5),
    ("tres", 3),
    ("cuatro", 4),
    ("cinco", 5),
    ("quattro", 4),
    ("cinque", 5),
];

/// Chinese numerals; a run of them is one number. The one is left out, as in English.
pub(super) const HAN_NUMERALS: &str = "二两三四五六七八九十百千万亿兩萬億";

/// Roman numerals that are not also everyday letters or abbreviations, in capitals.
pub(super) const ROMAN: &[(&str, u64)] = &[
    ("II", 2),
    ("III", 3),
    ("IV", 4),
    ("VI", 6),
    ("VII", 7),
    ("VIII", 8),
    ("IX", 9),
    ("XI", 11),
    ("XII", 12),
    ("XIII", 13),
    ("XIV", 14),
    ("XV", 15),
    ("XVI", 16),
    ("XVII", 17),
    ("XVIII", 18),
    ("XIX", 19),
    ("XX", 20),
];

/// Ordinal numbers in words; the larger ones come from the digits ("21st").
pub(super) const ORDINALS: &[(&str, u64)] = &[
    ("second", 2),
    ("third", 3),
    ("fourth", 4),
    ("fifth", 5),
    ("sixth", 6),
    ("seventh", 7),
    ("eighth", 8),
    ("ninth", 9),
    ("tenth", 10),
    ("eleventh", 11),
    ("twelfth", 12),
    ("thirteenth", 13),
    ("fourteenth", 14),
    ("fifteenth", 15),
    ("sixteenth", 16),
    ("seventeenth", 17),
    ("eighteenth", 18),
    ("nineteenth", 19),
    ("twentieth", 20),
    ("thirtieth", 30),
];

/// Words that multiply the number before them, as powers of ten.
pub(super) const SCALES: &[(&str, usize)] = &[
    ("hundred", 2),
    ("thousand", 3),
    ("million", 6),
    ("mn", 6),
    ("billion", 9),
    ("bn", 9),
    ("trillion", 12),
    ("lakh", 5),
    ("crore", 7),
];

/// Spellings of units; the first of a line names it.
pub(super) const UNITS: [&str; 45] = [
    "percent % pct percentage",
    "am a.m",
    "pm p.m",
    "second seconds sec secs s",
    "minute minutes min mins",
    "hour hours hr hrs h",
    "day days",
    "week weeks wk wks",
    "month months mth",
    "year years yr yrs",
    "usd dollar dollars $ us$ bucks",
    "eur euro euros €",
    "gbp £ sterling quid",
    "pound pounds",
    "jpy yen ¥ cny yuan rmb",
    "inr rupee rupees ₹ rs",
    "krw won ₩",
    "rub rouble ruble ₽",
    "btc bitcoin ₿",
    "cent cents pence penny",
    "mm millimetre millimetres millimeter millimeters",
    "cm centimetre centimetres centimeter centimeters",
    "m metre metres meter meters",
    "km kilometre kilometres kilometer kilometers",
    "inch inches",
    "ft foot feet",
    "yd yard yards",
    "mile miles mi",
    "mg milligram milligrams",
    "g gram grams gramme grammes",
    "kg kilo kilos kilogram kilograms",
    "lb lbs",
    "oz ounce ounces",
    "ml millilitre millilitres milliliter",
    "l litre litres liter liters",
    "celsius °c c degc",
    "fahrenheit °f f degf",
    "bit bits",
    "kb kilobyte kilobytes kib",
    "mb megabyte megabytes mib",
    "gb gigabyte gigabytes gib gig gigs",
    "tb terabyte terabytes tib",
    "w watt watts",
    "kw kilowatt kilowatts",
    "kwh",
];

/// Weekdays and the two names for groups of them, Monday first.
pub(super) const WEEKDAYS: [&str; 9] = [
    "monday mondays mon",
    "tuesday tuesdays tue tues",
    "wednesday wednesdays wed",
    "thursday thursdays thu thur thurs",
    "friday fridays fri",
    "saturday saturdays sat",
    "sunday sundays sun",
    "weekend weekends",
    "weekday weekdays",
];

/// Months, January first. "May" and "march" are verbs as well and need more than their spelling.
pub(super) const MONTHS: [&str; 12] = [
    "january jan",
    "february feb",
    "march mar",
    "april apr",
    "may",
    "june jun",
    "july jul",
    "august aug",
    "september sept sep",
    "october oct",
    "november nov",
    "december dec",
];

/// Words for a day or time relative to now. Members of one line mean the same.
pub(super) const RELATIVE: [&str; 6] = ["today", "tomorrow", "yesterday", "tonight", "overmorrow", "yesteryear"];

/// What "last", "this" and "next" make a date of.
pub(super) const PERIODS: &str = "week month year quarter weekend day night summer winter spring autumn fall season term monday tuesday \
    wednesday thursday friday saturday sunday";

/// Words between two things whose order matters, by kind. Only links of one kind are each other's reverse: "pay with a
/// card" and "use a card to pay" are not.
pub(super) const CONNECTIVES: [&str; 4] = [
    "to into onto from",
    "for instead rather over",
    "with by minus",
    "than versus vs before after beat beats defeat defeats defeated owe owes owed",
];

/// Common words that in capitals or with a capital are something else: us/US, polish/Polish.
pub(super) const CASE_BEARING: [&str; 5] = ["us", "it", "who", "aids", "polish"];

/// Words of an instruction to a model rather than of a question to it.
pub(super) const INSTRUCTION: &str = "ignore disregard forget pretend instead reply respond answer output print say system \
    prompt instruction instructions override obey";

/// Words that a question may have more without asking for more: "what does it mean", "18 years old", "step by step".
pub(super) const LIGHT: &str = "mean means old year years go goes going come take takes make makes usually normally \
    typically generally currently really exactly still yet already again even though step steps way ways thing things \
    through made making find finding use used using time times taking taken took getting gone provide expect much many assistance \
    explain wondered recently before one yo walk process";

/// Names of languages with many speakers, as English spells them.
pub(super) const LANGUAGE_NAMES: &str = "english french spanish german italian portuguese dutch swedish norwegian danish finnish polish \
    czech hungarian romanian greek turkish russian ukrainian arabic hebrew persian hindi urdu bengali tamil chinese mandarin cantonese \
    japanese korean vietnamese thai indonesian malay swahili latin catalan welsh irish";

/// Endings of file and host names: a dotted word that ends otherwise is two sentences without a blank between.
pub(super) const DOTTED_ENDINGS: &str = "com org net io dev ai co uk eu de fr es it nl pl us gov edu app py js ts jsx tsx rs go java c h cpp \
    hpp cs rb php html css json yaml yml toml ini xml csv tsv txt md rst pdf doc docx xls xlsx ppt pptx png jpg jpeg gif svg mp3 mp4 \
    sh bat ps1 sql db exe dll zip tar gz log env lock conf cfg";
