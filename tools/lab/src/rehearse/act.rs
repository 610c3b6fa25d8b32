//! What a step has done: a command line, as the transcript has it before it runs.

use std::collections::BTreeMap;

use super::transcript::{Command, Program};

/// A command line that is not yet that of a lab: what stands in braces is filled in when it runs.
pub struct Act {
    pub command: Command,
    makes: Option<String>,
    /// Whether it runs again although it has succeeded before in this step: it asks how things are.
    pub again: bool,
}

impl Act {
    /// How many words name a founder's files.
    pub const FILES: usize = 6;

    fn new(program: Program, words: Vec<String>) -> Self {
        let command = Command { program, segment: None, words, values: BTreeMap::new(), wanted: vec![0], stays: false };
        Self { command, makes: None, again: false }
    }

    /// The tool, by one of the founders.
    pub fn tool(who: &str, words: &[&str]) -> Self {
        let files = [("--key", "key"), ("--registry", "registry.sqlite"), ("--passphrase-file", "passphrase")];
        let files = files.into_iter().flat_map(|(flag, name)| [flag.to_owned(), format!("{who}/{name}")]);
        Self::new(Program::Tool, files.chain(words.iter().map(|word| (*word).to_owned())).collect())
    }

    /// The tool, with what a founder kept: another key file and registry, and the passphrase that he has.
    pub fn kept(place: &str, who: &str, words: &[&str]) -> Self {
        let mut act = Self::tool(place, words);
        if let Some(passphrase) = act.command.words.get_mut(Self::FILES - 1) {
            *passphrase = format!("{who}/passphrase");
        }
        act
    }

    /// The tool, by somebody without a key.
    pub fn anybody(words: &[&str]) -> Self {
        Self::new(Program::Tool, words.iter().map(|word| (*word).to_owned()).collect())
    }

    pub fn lab(words: &[&str]) -> Self {
        Self::new(Program::Lab, words.iter().map(|word| (*word).to_owned()).collect())
    }

    /// On the segment, behind a port of that name.
    pub fn on(mut self, port: &str) -> Self {
        self.command.segment = Some(port.into());
        self
    }

    pub fn more(mut self, words: impl IntoIterator<Item = String>) -> Self {
        self.command.words.extend(words);
        self
    }

    /// Although no `--out` says so.
    pub fn makes(mut self, path: &str) -> Self {
        self.makes = Some(path.into());
        self
    }

    /// The file that the program makes and does not overwrite.
    pub fn made(&self) -> Option<String> {
        let out = || self.command.words.iter().skip_while(|word| *word != "--out").nth(1).cloned();
        self.makes.clone().or_else(out)
    }

    /// What somebody else ran.
    pub fn anew(command: &Command) -> Self {
        let command = Command { values: BTreeMap::new(), ..command.clone() };
        Self { command, makes: None, again: true }
    }

    pub fn wants(mut self, codes: &[i32]) -> Self {
        self.command.wanted = codes.to_vec();
        self
    }

    pub fn again(mut self) -> Self {
        self.again = true;
        self
    }

    pub fn stays(mut self) -> Self {
        self.command.stays = true;
        self
    }
}

/// Fills in what stands in braces, and collects the values.
pub fn fill(
    text: &str,
    values: &mut BTreeMap<String, String>,
    mut value: impl FnMut(&str) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else { break };
        if !values.contains_key(name) {
            values.insert(name.to_owned(), value(name)?);
        }
        filled += before;
        filled += &values[name];
        rest = after;
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_braces_is_filled_in_once() {
        let (mut values, mut asked) = (BTreeMap::new(), 0);
        let filled = fill("a {x} b {y}{x} {z", &mut values, |name| {
            asked += 1;
            Ok(format!("<{name}>"))
        });
        assert_eq!(filled.unwrap(), "a <x> b <y><x> {z");
        assert_eq!((asked, values.len()), (2, 2));
        assert!(fill("{none}", &mut values, |_| anyhow::bail!("there is none")).is_err());
    }

    #[test]
    fn what_a_command_makes_is_known() {
        let act = Act::tool("ada", &["anchor", "--out", "shared/anchor.bin"]).on("ada");
        assert_eq!(act.made().as_deref(), Some("shared/anchor.bin"));
        let more = Act::anybody(&["a"]).more(["--out".to_owned(), "b".to_owned()]);
        assert_eq!(more.made().as_deref(), Some("b"));
        assert_eq!(more.makes("c").made().as_deref(), Some("c"));
        assert_eq!(act.command.words[..2], ["--key", "ada/key"]);
        assert_eq!(act.command.words[Act::FILES], "anchor");
        assert_eq!(act.command.segment.as_deref(), Some("ada"));
    }
}
