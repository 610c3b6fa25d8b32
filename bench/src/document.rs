//! The tables of docs/bench.md. A section's table stands between two comments and is the only thing here that a
//! program writes.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// Puts a section's table in the place of the last one.
pub fn update(path: &Path, section: &str, table: &str) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let new = replaced(&text, section, table)
        .with_context(|| format!("{} has no place for the table of {section}", path.display()))?;
    fs::write(path, new).with_context(|| path.display().to_string())
}

fn replaced(text: &str, section: &str, table: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- bench {section} -->\n"), format!("<!-- end {section} -->\n"));
    let start = text.find(&begin)? + begin.len();
    let stop = start + text[start..].find(&end)?;
    Some([&text[..start], table, &text[stop..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sections_own_table_is_replaced() {
        let text = "a\n<!-- bench x -->\nold\n<!-- end x -->\nb\n<!-- bench y -->\nkept\n<!-- end y -->\n";
        let new = replaced(text, "x", "new\n").unwrap();
        assert_eq!(new, text.replace("old", "new"));
        assert_eq!(replaced(text, "z", "new\n"), None);
        assert_eq!(replaced("<!-- bench x -->\nno end", "x", "new\n"), None);
    }
}
