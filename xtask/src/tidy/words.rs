//! Texts for users use the field's terms: people search for *unreachable*, *evict* and *default*.
//!
//! `words.txt` lists phrases of an old dialect with the term to write. Code in pages, one-word literals and
//! MLflow's protocol, whose texts clients know, are exempt.

use anyhow::Context as _;

use super::sources::Source;
use super::texts::{self, Line};
use super::{Finding, allowance};
use crate::build::root;

const LIST: &str = "xtask/src/tidy/words.txt";
/// Texts of a foreign protocol.
const FOREIGN: &str = "services/registry/src/api/mlflow/";

/// A phrase with what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Phrase {
    words: Vec<String>,
    instead: String,
}

pub(crate) fn check(sources: &[Source]) -> anyhow::Result<Vec<Finding>> {
    let phrases = parse(include_str!("words.txt"))?;
    let mut findings = Vec::new();
    for (file, page) in texts::pages(&root())? {
        findings.extend(matches(&page_words(&page), &phrases).map(|(line, message)| Finding {
            file: file.clone(),
            line,
            message,
        }));
    }
    for source in sources.iter().filter(|source| !source.file.starts_with(FOREIGN)) {
        for text in texts::of_source(source) {
            let words: Vec<Word> = words(&without_code(&text.text), text.line).collect();
            findings.extend(matches(&words, &phrases).map(|(line, message)| Finding {
                file: source.file.clone(),
                line,
                message,
            }));
        }
    }
    allowance::beyond(findings, include_str!("words_before.txt"), "xtask/src/tidy/words_before.txt")
}

/// Reads lines such as `PHRASE => WHAT TO WRITE`.
fn parse(list: &str) -> anyhow::Result<Vec<Phrase>> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let phrase = |line: &str| {
        let (phrase, instead) = line.split_once(" => ")?;
        let words = words(phrase, 0).map(|word| word.text).collect();
        Some(Phrase { words, instead: instead.to_owned() })
    };
    lines
        .map(|line| phrase(line).with_context(|| format!("{LIST}: expected `PHRASE => …`, got `{line}`")))
        .collect()
}

/// A word or a punctuation mark, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    text: String,
    line: usize,
}

fn words(text: &str, line: usize) -> impl Iterator<Item = Word> {
    let mut found: Vec<String> = Vec::new();
    let mut in_word = false;
    for character in text.chars() {
        let is_letter = character.is_alphanumeric() || matches!(character, '\'' | '-' | '_');
        if character.is_whitespace() {
            in_word = false;
            continue;
        }
        match found.last_mut().filter(|_| in_word && is_letter) {
            Some(word) => word.extend(character.to_lowercase()),
            None => found.push(character.to_lowercase().collect()),
        }
        in_word = is_letter;
    }
    found.into_iter().map(move |text| Word { text, line })
}

/// The words of a page's sentences and tables; a phrase may go on in the next line.
fn page_words(page: &str) -> Vec<Word> {
    let mut found = Vec::new();
    for (index, line) in texts::lines(page).into_iter().enumerate() {
        let (Line::Prose(text) | Line::Row(text)) = line else { continue };
        found.extend(words(&without_code(text), index + 1));
    }
    found
}

/// A line without its `code` and the targets of its links.
fn without_code(line: &str) -> String {
    let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ` ");
    let mut parts = plain.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "] " + part.split_once(')').map_or(part, |(_, rest)| rest))
}

/// Where the phrases occur, with what to do.
fn matches<'text>(
    words: &'text [Word],
    phrases: &'text [Phrase],
) -> impl Iterator<Item = (usize, String)> + 'text {
    words.iter().enumerate().flat_map(move |(at, first)| {
        let occurs = move |phrase: &&Phrase| {
            let rest = words[at..].iter().map(|word| &word.text).take(phrase.words.len());
            rest.eq(phrase.words.iter())
        };
        phrases
            .iter()
            .filter(occurs)
            .map(|phrase| (first.line, format!("\"{}\": write {}", phrase.words.join(" "), phrase.instead)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(page: &str) -> Vec<usize> {
        let phrases =
            parse("is away => is unreachable\nnobody => no client\nwithout it : => [default: …]\n").unwrap();
        matches(&page_words(page), &phrases).map(|(line, _)| line).collect()
    }

    #[test]
    fn phrases_are_found_across_lines_and_whatever_their_case() {
        assert_eq!(found("NATS is\naway.\n\n| a | Nobody |\n\nWithout it: all.\n"), [1, 4, 6]);
    }

    #[test]
    fn code_names_and_links_are_exempt() {
        let page =
            "The account `nobody`, [a page](is away nobody.md), nobody-else, without its: x.\n\n    nobody\n";
        assert_eq!(found(page), Vec::<usize>::new());
    }

    #[test]
    fn a_line_of_the_list_without_a_term_is_an_error() {
        assert!(parse("is away\n").unwrap_err().to_string().contains("`is away`"));
    }
}
