//! Each command that the documents show is one.

use std::{fs, path::Path};

use clap::{Parser, error::ErrorKind};
use os_network_admin::cli::Cli;

/// The commands in a document's code, with their arguments, without the comments and the dots that stand for more.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced || line.starts_with("    ") {
            lines.push(line.trim());
        }
    }
    let joined = lines.join("\n").replace("\\\n", " ");
    let mut commands = Vec::new();
    for line in joined.lines() {
        let line = line.trim_start_matches("$ ");
        let line = line.split_once(" | ").map_or(line, |(first, _)| first);
        if line.starts_with("os-network-admin ") {
            let words = shlex::split(line).unwrap_or_else(|| panic!("{line}: the quotes do not match"));
            let words = words.into_iter().take_while(|word| ![">", "&", "||", "&&"].contains(&word.as_str()));
            commands.push(words.filter(|word| word != "…").map(|word| word.replace('…', "")).collect());
        }
    }
    commands
}

/// What is wrong with a command, but for the values of its arguments: documents abbreviate them.
fn fault(words: &[String]) -> Option<String> {
    match Cli::try_parse_from(words) {
        Ok(_) => None,
        Err(error) if matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::DisplayHelp) => None,
        Err(error) => Some(format!("{}: {error}", words.join(" "))),
    }
}

#[test]
fn every_command_in_the_documents_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let documents = fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("docs").path());
    let documents = documents.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut shown = 0;
    for document in documents.chain([root.join("README.md")]) {
        for command in commands(&fs::read_to_string(&document).expect("a document")) {
            shown += 1;
            assert_eq!(fault(&command), None, "{}", document.display());
        }
    }
    assert!(shown > 40, "{shown} commands were found");
}

#[test]
fn a_command_that_is_none_is_found() {
    let text = "    $ os-network-admin fleet\\\n      show x   # why\n    os-network-admin fleet shown x\n\
                ```\nos-network-admin key K… > file\n```\n";
    let commands = commands(text);
    assert_eq!(commands.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 3]);
    assert_eq!(fault(&commands[0]), None);
    assert!(fault(&commands[1]).is_some() && fault(&commands[2]).is_some());
}
