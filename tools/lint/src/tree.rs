//! The files that the rules look at.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// The text of each file by its path from the root; a file that is not text, or a symbolic link, has none.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, Option<String>>,
    directories: BTreeSet<String>,
}

impl Tree {
    /// The files that git tracks or would track: what is ignored, such as `target/`, is not part of the tree.
    ///
    /// # Errors
    /// If `root` is no git work tree.
    pub fn of_repository(root: &Path) -> Result<Self> {
        let output = Command::new("git")
            .arg("-C")
            .arg(root)
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()
            .context("git cannot be started")?;
        ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
        let mut tree = Self::default();
        for name in output.stdout.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let name = std::str::from_utf8(name).context("a file name is not UTF-8")?;
            let path = root.join(name);
            // A file that was removed and not yet staged is still listed.
            let Ok(kind) = path.symlink_metadata() else { continue };
            tree.insert(name, if kind.is_file() { fs::read_to_string(&path).ok() } else { None });
        }
        Ok(tree)
    }

    fn insert(&mut self, name: &str, text: Option<String>) {
        let mut directory = name;
        while let Some((parent, _)) = directory.rsplit_once('/') {
            self.directories.insert(parent.to_owned());
            directory = parent;
        }
        self.files.insert(name.to_owned(), text);
    }

    /// The text of the file at `name`, if it is there and has one.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.files.get(name)?.as_deref()
    }

    /// Path and text of every text file whose path ends with `suffix`.
    pub(crate) fn texts<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(name, _)| name.ends_with(suffix))
            .filter_map(|(name, text)| Some((name.as_str(), text.as_deref()?)))
    }

    pub(crate) fn is_file(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    pub(crate) fn is_directory(&self, name: &str) -> bool {
        name.is_empty() || self.directories.contains(name)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().chain(&self.directories).map(String::as_str)
    }
}

#[cfg(test)]
impl<'a> FromIterator<(&'a str, &'a str)> for Tree {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(files: I) -> Self {
        let mut tree = Self::default();
        for (name, text) in files {
            tree.insert(name, Some(text.to_owned()));
        }
        tree
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Tree {
    fn from(files: [(&str, &str); N]) -> Self {
        files.into_iter().collect()
    }
}

/// `path` as seen from `directory`, both from the root of the tree; none if it leads out of the tree.
pub(crate) fn join(directory: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = if path.starts_with('/') { Vec::new() } else { parts(directory).collect() };
    for part in self::parts(path) {
        match part {
            "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// The directory of the file at `name`.
pub(crate) fn directory(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// The line, from 1, of the byte at `offset` in `text`.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_and_stay_within_the_tree() {
        for (directory, path, joined) in [
            ("docs", "mesh.md", Some("docs/mesh.md")),
            ("docs", "../system.xml", Some("system.xml")),
            ("", "./a/b/", Some("a/b")),
            ("a/b", "../../c", Some("c")),
            ("a", "../..", None),
            ("docs", "/README.md", Some("README.md")),
        ] {
            assert_eq!(join(directory, path).as_deref(), joined, "{directory} {path}");
        }
    }

    #[test]
    fn this_repository_has_its_files_and_nothing_that_was_built() {
        let tree = Tree::of_repository(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap();
        assert!(tree.text("README.md").is_some_and(|text| text.starts_with("# Genesis")));
        assert!(tree.is_directory("crates/domains"));
        assert!(tree.is_file("pds/crates") && tree.text("pds/crates").is_none());
        assert!(!tree.is_directory("target"));
    }
}
