//! What customers write besides the recorded questions: how one question is written in other ways, what is personal, what is asked
//! next.
//!
//! Everything here is made up. Names are common ones drawn from lists, numbers are drawn.

use fastrand::Rng;

const OPENERS: [&str; 10] = [
    "Hi, ",
    "Hello, ",
    "Hey there. ",
    "Good morning. ",
    "Hello team, ",
    "Sorry to bother you. ",
    "Quick question: ",
    "Please help me. ",
    "Hi there! I looked in the app first. ",
    "Good evening, ",
];

const ASIDES: [&str; 10] = [
    "",
    "",
    "",
    " I use the app on my phone.",
    " I am new here.",
    " I could not find it in the help pages.",
    " I am asking for the first time.",
    " It is a bit urgent.",
    " My friend told me to ask here.",
    " I have been a customer for a while.",
];

const CLOSERS: [&str; 7] = ["", "", " Thanks.", " Thank you!", " Thanks in advance", " Please advise.", " Cheers"];

/// The same question as another customer might write it: with a greeting, an aside, thanks, a slip of the fingers.
pub(crate) fn varied(text: &str, rng: &mut Rng) -> String {
    let mut said = text.to_owned();
    if rng.f64() < 0.3 {
        said = slip(&said, rng);
    }
    let opener = if rng.f64() < 0.6 { pick(&OPENERS, rng) } else { "" };
    let (aside, closer) = (pick(&ASIDES, rng), pick(&CLOSERS, rng));
    // Without any sign at the end the next sentence would run on.
    let end = if said.ends_with(['.', '?', '!']) || (aside.is_empty() && closer.is_empty()) { "" } else { "." };
    let whole = format!("{opener}{said}{end}{aside}{closer}");
    if rng.f64() < 0.2 { whole.to_lowercase() } else { whole }
}

/// Two neighbouring letters of a longer word change places.
fn slip(text: &str, rng: &mut Rng) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let long: Vec<usize> = (0..words.len())
        .filter(|at| words[*at].len() > 4 && words[*at].bytes().all(|byte| byte.is_ascii_lowercase()))
        .collect();
    if let Some(at) = (!long.is_empty()).then(|| long[rng.usize(..long.len())]) {
        let mut letters: Vec<char> = words[at].chars().collect();
        let from = rng.usize(1..letters.len() - 2);
        letters.swap(from, from + 1);
        words[at] = letters.into_iter().collect();
    }
    words.join(" ")
}

const FIRST: [&str; 20] = [
    "Anna", "Ben", "Carla", "David", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Katya", "Liam", "Maria",
    "Noah", "Olga", "Pedro", "Rita", "Samir", "Tara", "Victor",
];
const LAST: [&str; 20] = [
    "Adams", "Becker", "Costa", "Dvorak", "Evans", "Fischer", "Garcia", "Hansen", "Ivanov", "Jensen", "Kowalski",
    "Lopez", "Moreau", "Novak", "Okafor", "Petrov", "Rossi", "Schmidt", "Tanaka", "Weber",
];
const SHOPS: [&str; 12] = [
    "Tesco",
    "Ikea",
    "Lidl",
    "Amazon",
    "Zara",
    "Spotify",
    "Ryanair",
    "Uber",
    "Decathlon",
    "Netflix",
    "Shell",
    "Booking",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Questions about one customer's own affairs, with the details in the question.
const DETAILED: [&str; 14] = [
    "Has my transfer of {amount} to {name} on {date} arrived?",
    "My card ending {four} was declined at {shop} on {date}, why?",
    "I was charged {amount} by {shop} on {date}. What is this payment?",
    "Where is the card that I ordered on {date}? The reference is {reference}.",
    "When will the refund of {amount} from {shop} reach my account ending {four}?",
    "Please confirm that {name} has paid {amount} into my account.",
    "Which exchange rate did I get for my payment of {amount} to {name} on {date}?",
    "Did the top-up of {amount} with my card ending {four} go through?",
    "My name is {name} and my account number is {eight}. What is my balance?",
    "What is the balance of account {eight}?",
    "Can you cancel my payment of {amount} to {name}?",
    "Is my standing order of {amount} to {name} still active?",
    "Why is the cash withdrawal of {amount} on {date} still pending?",
    "My direct debit {reference} for {amount} was taken twice, can I get one of them back?",
];

/// One of them, with details drawn.
pub(crate) fn detailed(rng: &mut Rng) -> String {
    let mut text = pick(&DETAILED, rng).to_owned();
    let pence = if rng.bool() { String::new() } else { format!(".{:02}", rng.u32(1..100)) };
    let values = [
        ("{amount}", format!("£{}{pence}", rng.u32(5..900))),
        ("{name}", format!("{} {}", pick(&FIRST, rng), pick(&LAST, rng))),
        ("{date}", format!("{} {}", rng.u32(1..29), pick(&MONTHS, rng))),
        ("{four}", format!("{:04}", rng.u32(..10_000))),
        ("{eight}", format!("{:08}", rng.u32(..100_000_000))),
        ("{reference}", format!("NB{:06}", rng.u32(..1_000_000))),
        ("{shop}", pick(&SHOPS, rng).to_owned()),
    ];
    for (place, value) in values {
        text = text.replace(place, &value);
    }
    text
}

/// Questions about one customer's own affairs in words that every customer uses. The application puts what it knows of the
/// customer into the request; without that no model could answer.
pub(crate) const OWN: [&str; 8] = [
    "What is my balance?",
    "What's my account balance right now?",
    "What was my last transaction?",
    "Which payments of mine are still pending?",
    "When is my next direct debit due?",
    "How much can I still withdraw this month?",
    "What is my IBAN?",
    "Is my identity check finished?",
];

/// What the application knows of a customer.
pub(crate) fn account(rng: &mut Rng) -> String {
    format!(
        "The customer in this chat is {} {}, account {:08}, card ending {:04}. Balance £{}.{:02}. Last transaction: {}, £{}.{:02}. Identity check: done.",
        pick(&FIRST, rng),
        pick(&LAST, rng),
        rng.u32(..100_000_000),
        rng.u32(..10_000),
        rng.u32(..9_000),
        rng.u32(..100),
        pick(&SHOPS, rng),
        rng.u32(1..300),
        rng.u32(..100),
    )
}

/// What is asked next about the answer that was given. Wordings of one row mean the same.
pub(crate) const NEXT: [[&str; 5]; 5] = [
    [
        "How long will that take?",
        "How long does it take?",
        "When will that be done?",
        "how many days is that",
        "And how long do I have to wait?",
    ],
    [
        "Where do I find that in the app?",
        "Where is that in the app?",
        "I can't find that screen",
        "which menu is it in",
        "Where exactly do I have to tap?",
    ],
    [
        "Does that cost anything?",
        "Is there a fee for that?",
        "Is it free?",
        "how much does it cost",
        "Will I be charged for this?",
    ],
    [
        "And if that does not work?",
        "What if it doesn't work?",
        "I tried that and it failed",
        "That did not help",
        "it still does not work",
    ],
    [
        "Can I talk to a person?",
        "Please connect me to an agent",
        "I want to speak to someone",
        "can a human help me",
        "Is there a number I can call?",
    ],
];

/// One of several.
pub(crate) fn pick<'a, T: ?Sized>(all: &[&'a T], rng: &mut Rng) -> &'a T {
    all[rng.usize(..all.len())]
}
