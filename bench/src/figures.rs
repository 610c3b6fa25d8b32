//! Figures by key, and the file that keeps them: one flat JSON object of numbers.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    fs, io,
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::Number;

/// What one section has found, by key without the section's name: `qemu_virt_aarch64/bytes`.
#[derive(Default)]
pub struct Figures(BTreeMap<String, f64>);

/// What a figure is to be.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    #[cfg_attr(not(test), expect(dead_code, reason = "for ratios of speed; no section has one yet"))]
    AtLeast(f64),
}

/// A figure as a person reads it.
pub struct Row<'a> {
    key: &'a str,
    value: f64,
    goal: Option<Goal>,
}

impl Figures {
    /// A count is given exactly; a ratio is kept to two digits behind the point.
    pub fn put(&mut self, key: impl Into<String>, value: f64) {
        self.0.insert(key.into(), (value * 100.0).round() / 100.0);
    }

    pub fn rows<'a>(&'a self, goals: &'a [(&str, Goal)]) -> impl Iterator<Item = Row<'a>> {
        self.0.iter().map(|(key, &value)| {
            let goal = goals.iter().find(|(of, _)| is_for(of, key)).map(|(_, goal)| *goal);
            Row { key, value, goal }
        })
    }

    /// The rows as a table in Markdown.
    pub fn table(&self, goals: &[(&str, Goal)]) -> String {
        let row = |row: Row<'_>| format!("| `{}` | {} | {} |\n", row.key, row.value, row.goal());
        let rows: String = self.rows(goals).map(row).collect();
        format!("| figure | value | goal |\n|---|---:|---|\n{rows}")
    }
}

/// Whether a goal is for this figure. `*/bytes` is for that of every board.
fn is_for(goal: &str, key: &str) -> bool {
    let of_board = |key: &str| key.split_once('/').is_some_and(|(_, rest)| goal.strip_prefix("*/") == Some(rest));
    goal == key || of_board(key)
}

impl Row<'_> {
    fn goal(&self) -> String {
        let (met, words) = match self.goal {
            None => return String::new(),
            Some(Goal::AtMost(most)) => (self.value <= most, format!("at most {most}")),
            Some(Goal::AtLeast(least)) => (self.value >= least, format!("at least {least}")),
        };
        format!("{words}: {}", if met { "met" } else { "**missed**" })
    }
}

impl Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.key, self.value, self.goal())
    }
}

/// The file.
pub struct Store(BTreeMap<String, Number>);

impl Store {
    pub fn read(path: &Path) -> Result<Self> {
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(BTreeMap::new())),
            bytes => {
                let bytes = bytes.with_context(|| path.display().to_string())?;
                Ok(Self(serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?))
            }
        }
    }

    /// A section's figures take the place of all that it had before.
    pub fn replace(&mut self, section: &str, figures: &Figures) {
        let prefix = format!("{section}/");
        self.0.retain(|key, _| !key.starts_with(&prefix));
        self.0.extend(figures.0.iter().filter_map(|(key, &value)| Some((format!("{prefix}{key}"), number(value)?))));
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(&self.0)?;
        text.push(b'\n');
        let new = path.with_extension("json.new");
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&new, text).and_then(|()| fs::rename(&new, path)).with_context(|| path.display().to_string())
    }
}

/// A whole number is written as one.
fn number(value: f64) -> Option<Number> {
    if value.fract() == 0.0 && (0.0..9e15).contains(&value) {
        return Some(Number::from(value as u64));
    }
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(pairs: &[(&str, f64)]) -> Figures {
        let mut figures = Figures::default();
        pairs.iter().for_each(|(key, value)| figures.put(*key, *value));
        figures
    }

    #[test]
    fn sections_run_apart_and_old_figures_of_a_section_go() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("target/bench.json");
        for (section, pairs) in [
            ("image", [("a/bytes", 1.0), ("old", 2.0)].as_slice()),
            ("imager", &[("a/bytes", 7.0)]),
            ("image", &[("a/bytes", 3.0), ("b/ratio", 1.504)]),
        ] {
            let mut store = Store::read(&file).unwrap();
            store.replace(section, &figures(pairs));
            store.write(&file).unwrap();
        }
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "{\n  \"image/a/bytes\": 3,\n  \"image/b/ratio\": 1.5,\n  \"imager/a/bytes\": 7\n}\n");
        fs::write(&file, "{\"image/a\": \"fast\"}").unwrap();
        assert!(Store::read(&file).is_err());
    }

    #[test]
    fn a_missed_goal_is_said() {
        let goals =
            [("a", Goal::AtMost(2.0)), ("b", Goal::AtMost(2.0)), ("c", Goal::AtLeast(2.0)), ("*/e", Goal::AtMost(2.0))];
        let found = [("a", 2.0), ("b", 2.01), ("c", 1.0), ("d", 9.0), ("one/e", 1.0), ("one/two/e", 1.0)];
        let table = figures(&found).table(&goals);
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| `a` | 2 | at most 2: met |",
                "| `b` | 2.01 | at most 2: **missed** |",
                "| `c` | 1 | at least 2: **missed** |",
                "| `d` | 9 |  |",
                "| `one/e` | 1 | at most 2: met |",
                "| `one/two/e` | 1 |  |"
            ]
        );
    }
}
