//! Every `slipway` command in the README and in `docs/` is one that this program accepts.

use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};

use crate::cli::Arguments;

/// A command as a page has it.
#[derive(Debug)]
struct Mention {
    place: String,
    words: Vec<String>,
    /// In a code block, where a reader copies it, rather than in a sentence.
    is_complete: bool,
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md"), root.join("examples/README.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// The commands of a page: in blocks that are fenced or indented, and in code within sentences.
fn mentions(page: &str, text: &str) -> Vec<Mention> {
    let mut found = Vec::new();
    let (mut fenced, mut continued) = (false, String::new());
    for (index, line) in text.lines().enumerate() {
        let place = format!("{page}:{}", index + 1);
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if !fenced && !line.starts_with("    ") {
            let spans = line.split('`').skip(1).step_by(2).filter_map(words_of);
            found.extend(spans.map(|words| Mention { place: place.clone(), words, is_complete: false }));
            continue;
        }
        if let Some(part) = line.strip_suffix('\\') {
            continued.push_str(part);
            continue;
        }
        continued.push_str(line);
        let words = words_of(continued.trim().trim_start_matches("$ "));
        found.extend(words.map(|words| Mention { place, words, is_complete: true }));
        continued.clear();
    }
    found
}

/// The words of a shell command whose program is `slipway`, with or without a folder.
fn words_of(command: &str) -> Option<Vec<String>> {
    let words = split(command);
    let program = words
        .iter()
        .position(|word| !word.split('=').next().is_some_and(is_variable) || !word.contains('='))?;
    // The graph of the crates has a line of the same name.
    let is_command =
        words[program].rsplit('/').next() == Some("slipway") && !words.iter().any(|word| word == "→");
    is_command.then(|| words[program..].to_vec())
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|character| character.is_ascii_uppercase() || character == '_')
}

/// Splits as a shell does, up to a comment, a redirection, a pipe or the next command.
fn split(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut depth) = (Vec::new(), None::<String>, None, 0);
    for character in command.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#' | '|' | '>' | '<' | ';' | '&') if word.is_none() && depth == 0 => break,
            (None, character) if character.is_whitespace() && depth == 0 => words.extend(word.take()),
            _ => {
                depth += i32::from(character == '(') - i32::from(character == ')');
                word.get_or_insert_default().push(character);
            }
        }
    }
    words.extend(word);
    words
}

/// The command that the words name, and the words after its name.
fn named<'command>(root: &'command Command, words: &[String]) -> (&'command Command, Vec<String>) {
    let (mut command, mut rest) = (root, Vec::new());
    for word in words {
        match command.find_subcommand(word).filter(|_| rest.is_empty()) {
            Some(inner) => command = inner,
            None => rest.push(word.clone()),
        }
    }
    (command, rest)
}

/// Why a mention is wrong, if it is.
fn fault(mention: &Mention) -> Option<String> {
    if mention.is_complete {
        let parsed = <Arguments as clap::Parser>::try_parse_from(&mention.words);
        let error = parsed.err().filter(clap::Error::use_stderr)?;
        return Some(format!("{}: {:?}: {error}", mention.place, mention.words.join(" ")));
    }
    let mut root = Arguments::command();
    root.build();
    let (command, rest) = named(&root, &mention.words[1..]);
    // In a sentence, arguments may be left out, and options may stand in brackets.
    let is_group =
        command.has_subcommands() && rest.first().is_some_and(|word| !word.starts_with(['-', '[', '…']));
    let options = rest.iter().map(|word| word.trim_matches(['[', ']', ',']));
    let unknown = options.filter_map(|word| word.strip_prefix("--")).find(|option| {
        let name = option.split(['=', '[']).next().unwrap_or_default();
        !name.is_empty() && command.get_arguments().all(|argument| argument.get_long() != Some(name))
    });
    (is_group || unknown.is_some()).then(|| {
        format!(
            "{}: `{}`: {} has no such command or option",
            mention.place,
            mention.words.join(" "),
            command.get_name()
        )
    })
}

#[test]
fn every_command_in_the_docs_is_accepted() {
    let mut faults = Vec::new();
    let mut count = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let name = page.file_name().unwrap().to_string_lossy().into_owned();
        let found = mentions(&name, &text);
        count += found.len();
        faults.extend(found.iter().filter_map(fault));
    }
    assert!(count > 50, "only {count} commands were found: is the search broken?");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn commands_are_found_and_faults_are_noticed() {
    let text = "Use `slipway models lost` or `slipway tokens create NAME [--nmae N]`.\n\n    \
        SLIPWAY_TOKEN=$(cat a b) slipway predict churn '[[1, 2]]' --version 3 | head # why\n    slipway \
        predict\n";
    let found = mentions("page", text);
    assert_eq!(found[2].words, ["slipway", "predict", "churn", "[[1, 2]]", "--version", "3"]);
    let faults: Vec<bool> = found.iter().map(|mention| fault(mention).is_some()).collect();
    assert_eq!(faults, [true, true, false, true]);
}
