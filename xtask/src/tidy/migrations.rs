//! Migrations only add to a schema: during an upgrade, replicas of the release before run against it, and may
//! restart.
//!
//! A migration that takes something away is the contract step, a release after the last one that used it. It
//! says so in a line of its own: `-- contract: REASON`. `migrations.txt` lists the files from before this
//! rule.

use std::path::Path;

use anyhow::Context as _;

use super::sources::Source;
use super::{Finding, allowance};
use crate::build::root;

const LIST: &str = "xtask/src/tidy/migrations.txt";
const MARK: &str = "-- contract:";
/// Folders in which each subfolder has migrations, and where.
const FOLDERS: [(&str, &str); 2] = [("migrations", ""), ("crates", "migrations")];

pub(crate) fn check(_: &[Source]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (folder, inner) in FOLDERS {
        for owner in entries(&root().join(folder))? {
            let migrations = owner.join(inner);
            let files = if migrations.is_dir() { entries(&migrations)? } else { Vec::new() };
            for path in files.iter().filter(|path| path.extension().is_some_and(|end| end == "sql")) {
                let text = std::fs::read_to_string(path);
                let text = text.with_context(|| format!("cannot read {}", path.display()))?;
                let file = path.strip_prefix(root()).unwrap_or(path).display().to_string();
                findings.extend(findings_of(&file, &text));
            }
        }
    }
    allowance::beyond(findings, include_str!("migrations.txt"), LIST)
}

fn entries(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let read =
        || -> std::io::Result<Vec<_>> { std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect() };
    let mut paths = read().with_context(|| format!("cannot read {}", folder.display()))?;
    paths.sort();
    Ok(paths)
}

fn findings_of(file: &str, text: &str) -> Vec<Finding> {
    let marks = |line: &str| line.strip_prefix(MARK).is_some_and(|reason| !reason.trim().is_empty());
    if text.lines().any(marks) {
        return Vec::new();
    }
    let statements = statements(text);
    let made: Vec<String> = statements.iter().filter_map(|statement| made_table(&statement.text)).collect();
    let broken = statements.iter().flat_map(|Statement { line, text }| {
        let changes = if made.contains(&table_of(text)) { Vec::new() } else { changes(text) };
        changes.into_iter().map(move |what| Finding {
            file: file.to_owned(),
            line: *line,
            message: format!(
                "{what}: replicas of the release before still use the schema; expand it first, and mark \
                 the contract step of a later release with `{MARK} REASON` \
                 (docs/development/change-the-database.md)"
            ),
        })
    });
    let unsupported = text.lines().next().filter(|line| line.trim() == "-- no-transaction");
    broken
        .chain(unsupported.map(|_| Finding {
            file: file.to_owned(),
            line: 1,
            message:
                "`no-transaction` is not supported: a failure would leave half of the migration".to_owned(),
        }))
        .collect()
}

/// A statement in upper case, without comments and literals, with single blanks.
struct Statement {
    line: usize,
    text: String,
}

fn statements(text: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (text, 1);
    let mut current = Statement { line: 0, text: String::new() };
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if first == '\'' {
            literal(rest, "'")
        } else if rest.starts_with("$$") {
            literal(rest, "$$")
        } else {
            let blank = first.is_whitespace();
            if first == ';' {
                found.push(std::mem::replace(&mut current, Statement { line: 0, text: String::new() }));
            } else if !blank || !(current.text.is_empty() || current.text.ends_with(' ')) {
                if current.text.is_empty() {
                    current.line = line;
                }
                current.text.push(if blank { ' ' } else { first.to_ascii_uppercase() });
            }
            first.len_utf8()
        };
        line += rest[..skipped].matches('\n').count();
        rest = &rest[skipped..];
    }
    found.push(current);
    found.retain(|statement| !statement.text.trim().is_empty());
    found
}

/// Length of a literal at the beginning of `text`, with its marks.
fn literal(text: &str, mark: &str) -> usize {
    text[mark.len()..].find(mark).map_or(text.len(), |end| end + 2 * mark.len())
}

/// The table that a statement makes.
fn made_table(statement: &str) -> Option<String> {
    let rest = statement.strip_prefix("CREATE TABLE ")?;
    let rest = rest.strip_prefix("IF NOT EXISTS ").map_or(rest, |_| "");
    rest.split([' ', '(']).next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The table that a statement changes, as far as it matters whether it is new; empty for others.
fn table_of(statement: &str) -> String {
    let after = |mark: &str| statement.split_once(mark).map(|(_, rest)| rest);
    let named = if statement.starts_with("ALTER TABLE ") {
        after("ALTER TABLE ")
    } else if statement.starts_with("CREATE UNIQUE INDEX ") {
        after(" ON ")
    } else {
        None
    };
    named.and_then(|rest| rest.split([' ', '(']).next()).unwrap_or_default().to_owned()
}

/// What a statement does that a replica of the release before may not survive.
fn changes(statement: &str) -> Vec<&'static str> {
    let begins = |word: &str| statement.starts_with(word);
    if begins("DROP ") {
        return vec!["drops something"];
    }
    if begins("TRUNCATE ") {
        return vec!["removes rows"];
    }
    if begins("CREATE UNIQUE INDEX ") {
        return vec!["adds a constraint"];
    }
    if begins("ALTER TABLE ") {
        return actions(statement).into_iter().filter_map(action).collect();
    }
    let renames = begins("ALTER ") && statement.contains(" RENAME ");
    if renames { vec!["renames something"] } else { Vec::new() }
}

/// The actions of `ALTER TABLE`.
fn actions(statement: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (index, character) in statement.char_indices() {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                found.push(statement[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    found.push(statement[start..].trim());
    found
}

fn action(text: &str) -> Option<&'static str> {
    let has = |words: &str| format!(" {text} ").contains(&format!(" {words} "));
    let adds_constraint = ["CONSTRAINT", "CHECK", "UNIQUE", "FOREIGN KEY", "PRIMARY KEY", "EXCLUDE"];
    if has("RENAME") {
        Some("renames something")
    } else if has("DROP NOT NULL") {
        Some("makes a column nullable")
    } else if has("DROP") && !has("DROP DEFAULT") {
        Some("drops something")
    } else if has("SET NOT NULL") {
        Some("makes a column required")
    } else if has("ALTER") && has("TYPE") {
        Some("changes the type of a column")
    } else if adds_constraint.iter().any(|kind| format!("{text}(").contains(&format!("ADD {kind}"))) {
        Some("adds a constraint")
    } else if has("ADD") && has("NOT NULL") && !has("DEFAULT") && !has("GENERATED") {
        Some("adds a required column without a default")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let found = findings_of("m.sql", text);
        found.iter().map(|finding| finding.message.split(':').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_takes_away_is_found() {
        for (text, what) in [
            ("DROP TABLE a;", "drops something"),
            ("drop index\n  a;", "drops something"),
            ("ALTER TABLE a DROP COLUMN b;", "drops something"),
            ("ALTER TABLE a RENAME COLUMN b TO c;", "renames something"),
            ("ALTER TABLE a RENAME TO b;", "renames something"),
            ("ALTER INDEX a RENAME TO b;", "renames something"),
            ("ALTER TABLE a ALTER COLUMN b SET NOT NULL;", "makes a column required"),
            ("ALTER TABLE a ALTER b DROP NOT NULL;", "makes a column nullable"),
            ("ALTER TABLE a ALTER COLUMN b TYPE TEXT;", "changes the type of a column"),
            ("ALTER TABLE a ADD COLUMN b TEXT NOT NULL;", "adds a required column without a default"),
            ("ALTER TABLE a ADD b TEXT, ADD CHECK (b <> '');", "adds a constraint"),
            ("CREATE UNIQUE INDEX x ON a (b);", "adds a constraint"),
            ("TRUNCATE a;", "removes rows"),
        ] {
            assert_eq!(found(text), [what], "{text}");
        }
        let two = findings_of("m.sql", "-- first\nCREATE TABLE a (b TEXT);\n\nDROP TABLE c;\nDROP TABLE d;");
        assert_eq!(two.iter().map(|finding| finding.line).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn what_adds_and_the_contract_step_are_not() {
        for text in [
            "CREATE TABLE a (b TEXT NOT NULL, CHECK (b <> ''));\nALTER TABLE a ADD UNIQUE (b);",
            "CREATE TABLE a (b TEXT);\nCREATE UNIQUE INDEX x ON a (b);",
            "ALTER TABLE a ADD COLUMN b TEXT, ADD COLUMN c BIGINT NOT NULL DEFAULT 0;",
            "ALTER TABLE a ADD COLUMN b TEXT NOT NULL DEFAULT ', ADD CHECK (x)';",
            "-- DROP TABLE a;\nINSERT INTO a VALUES ('DROP TABLE a; x');",
            "CREATE FUNCTION f() RETURNS trigger AS $$ BEGIN DROP TABLE a; END $$;",
            "-- contract: nothing has read it since 0.4\nDROP TABLE a;",
        ] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
        assert_eq!(found("-- contract:\nDROP TABLE a;"), ["drops something"], "a mark needs a reason");
        assert_eq!(found("-- no-transaction\nSELECT 1;").len(), 1);
    }
}
