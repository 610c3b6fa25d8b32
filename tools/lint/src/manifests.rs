//! What the packages of the tree depend on within it, as their manifests say.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use toml::de::{DeTable, DeValue};

use crate::{
    Tree,
    tree::{directory, join, line_at},
};

/// A package of the tree.
pub(crate) struct Package {
    pub name: String,
    /// The directory of its manifest.
    pub directory: String,
    pub dependencies: Vec<Dependency>,
}

/// A dependency of one package on another of the tree.
pub(crate) struct Dependency {
    /// The directory of the package that is needed.
    pub directory: String,
    /// Needed by tests, examples and benches only.
    pub dev: bool,
    /// Where the manifest says it.
    pub line: usize,
}

impl Package {
    pub(crate) fn manifest(&self) -> String {
        join(&self.directory, "Cargo.toml").unwrap_or_default()
    }
}

/// Every package of the tree by its directory.
pub(crate) fn packages(tree: &Tree) -> Result<BTreeMap<String, Package>> {
    let mut workspaces = BTreeMap::new();
    let mut manifests = Vec::new();
    for (file, text) in tree.texts("Cargo.toml").filter(|(file, _)| is_manifest(file)) {
        let manifest = DeTable::parse(text).with_context(|| file.to_owned())?.into_inner();
        if let Some(workspace) = table(&manifest, "workspace") {
            workspaces.insert(directory(file), inherited(directory(file), workspace));
        }
        manifests.push((file, text, manifest));
    }
    let mut packages = BTreeMap::new();
    for (file, text, manifest) in &manifests {
        let Some(name) = table(manifest, "package").and_then(|package| string(package, "name")) else { continue };
        let at = directory(file);
        // The nearest workspace above is the package's.
        let workspace = workspaces.iter().filter(|(root, _)| is_within(at, root)).max_by_key(|(root, _)| root.len());
        let mut dependencies = Vec::new();
        for (kind, section) in sections(manifest) {
            for (key, value) in section {
                let path = match value.get_ref() {
                    DeValue::Table(value) if value.contains_key("workspace") => {
                        workspace.and_then(|(_, inherited)| inherited.get(key.get_ref().as_ref()).cloned())
                    }
                    DeValue::Table(value) => string(value, "path").and_then(|path| join(at, path)),
                    _ => None,
                };
                if let Some(directory) = path {
                    let line = line_at(text, key.span().start);
                    dependencies.push(Dependency { directory, dev: kind == "dev-dependencies", line });
                }
            }
        }
        packages.insert(at.to_owned(), Package { name: name.to_owned(), directory: at.to_owned(), dependencies });
    }
    Ok(packages)
}

fn is_manifest(file: &str) -> bool {
    file == "Cargo.toml" || file.ends_with("/Cargo.toml")
}

fn is_within(directory: &str, root: &str) -> bool {
    root.is_empty() || directory == root || directory.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// The directories of a workspace's own packages, by the name under which members inherit them.
fn inherited(root: &str, workspace: &DeTable) -> BTreeMap<String, String> {
    table(workspace, "dependencies")
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| {
            let DeValue::Table(value) = value.get_ref() else { return None };
            Some((key.get_ref().to_string(), join(root, string(value, "path")?)?))
        })
        .collect()
}

/// The tables of dependencies, those for certain targets too.
fn sections<'a, 'i>(manifest: &'a DeTable<'i>) -> Vec<(&'static str, &'a DeTable<'i>)> {
    let targets = table(manifest, "target").into_iter().flatten().filter_map(|(_, value)| match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    });
    let mut sections = Vec::new();
    for place in std::iter::once(manifest).chain(targets) {
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            sections.extend(table(place, kind).map(|section| (kind, section)));
        }
    }
    sections
}

fn table<'a, 'i>(within: &'a DeTable<'i>, key: &str) -> Option<&'a DeTable<'i>> {
    match within.get(key)?.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

fn string<'a>(within: &'a DeTable<'_>, key: &str) -> Option<&'a str> {
    match within.get(key)?.get_ref() {
        DeValue::String(string) => Some(string),
        _ => None,
    }
}
