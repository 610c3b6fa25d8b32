//! Which siblings import which, and the circles of that.

use std::collections::{BTreeMap, BTreeSet};

use super::module::Module;

/// How long a chain of imports is followed: a name that is imported in a circle does not compile.
const HOPS: usize = 16;

/// One sibling's import of another, the first that was found.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    pub from: String,
    pub to: String,
    pub path: String,
    pub file: String,
    pub line: usize,
}

/// Edges by the path of the siblings' parent, then by the two siblings.
type Graphs = BTreeMap<Vec<String>, BTreeMap<(String, String), Edge>>;

/// The path of a parent, and the edges of a circle among its children.
pub(super) fn circles(root: &Module) -> Vec<(Vec<String>, Vec<Edge>)> {
    let mut graphs = Graphs::new();
    collect(root, root, &[], &mut graphs);
    let mut circles = Vec::new();
    for (parent, graph) in graphs {
        let reach = reach(&graph);
        let mut told = BTreeSet::new();
        for (from, to) in graph.keys() {
            let within = |a: &String, b: &String| reach.get(a).is_some_and(|far| far.contains(b));
            if !within(to, from) || told.contains(from) {
                continue;
            }
            // Those that `from` reaches and that reach it back.
            let circle: BTreeSet<&String> = reach[from].iter().filter(|other| within(other, from)).collect();
            told.extend(circle.iter().copied().cloned());
            let edges = graph.iter().filter(|((a, b), _)| circle.contains(a) && circle.contains(b));
            circles.push((parent.clone(), edges.map(|(_, edge)| edge.clone()).collect()));
        }
    }
    circles
}

fn collect(root: &Module, module: &Module, at: &[String], graphs: &mut Graphs) {
    for reference in &module.references {
        let Some(path) = absolute(at, &reference.path) else { continue };
        for target in targets(root, path) {
            let common = at.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (at.get(common), target.get(common)) {
                let edge = Edge {
                    from: from.clone(),
                    to: to.clone(),
                    path: reference.path.join("::"),
                    file: reference.file.clone(),
                    line: reference.line,
                };
                graphs.entry(at[..common].to_vec()).or_default().entry((from.clone(), to.clone())).or_insert(edge);
            }
        }
    }
    for (name, child) in &module.children {
        collect(root, child, &[at, std::slice::from_ref(name)].concat(), graphs);
    }
}

/// `path` as written in the module `at`, from the root of the crate; none if it leads out of it.
fn absolute(at: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut base = at.to_vec();
    let mut rest = path;
    while let Some((first, others)) = rest.split_first() {
        match first.as_str() {
            "crate" => base.clear(),
            "self" => {}
            "super" => drop(base.pop()?),
            _ => break,
        }
        rest = others;
    }
    base.extend_from_slice(rest);
    Some(base)
}

/// The modules that `path` names: where its words lead, and where what it names is defined.
fn targets(root: &Module, mut path: Vec<String>) -> Vec<Vec<String>> {
    let mut targets = Vec::new();
    for _ in 0..HOPS {
        let (mut module, mut depth) = (root, 0);
        while let Some(child) = path.get(depth).and_then(|name| module.children.get(name)) {
            (module, depth) = (child, depth + 1);
        }
        let at = path[..depth].to_vec();
        let next = path.get(depth).filter(|name| !module.items.contains(*name)).and_then(|name| {
            let rest = &path[depth + 1..];
            if let Some(import) = module.imports.get(name) {
                return Some([relative(root, &at, import)?, rest.to_vec()].concat());
            }
            module.globs.iter().find_map(|glob| {
                let glob = relative(root, &at, glob)?;
                let has = find(root, &glob)?;
                (has.items.contains(name) || has.imports.contains_key(name) || has.children.contains_key(name))
                    .then(|| [glob, path[depth..].to_vec()].concat())
            })
        });
        targets.push(at);
        match next {
            Some(next) => path = next,
            None => break,
        }
    }
    targets
}

/// An import of the module `at`, from the root of the crate; none if it is of another crate.
fn relative(root: &Module, at: &[String], import: &[String]) -> Option<Vec<String>> {
    let first = import.first()?;
    if ["crate", "self", "super"].contains(&first.as_str()) {
        return absolute(at, import);
    }
    find(root, at)?.children.contains_key(first).then(|| [at, import].concat())
}

fn find<'a>(root: &'a Module, path: &[String]) -> Option<&'a Module> {
    path.iter().try_fold(root, |module, name| module.children.get(name))
}

/// What each node reaches by one edge or more.
fn reach(graph: &BTreeMap<(String, String), Edge>) -> BTreeMap<String, BTreeSet<String>> {
    let mut reach: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in graph.keys() {
        reach.entry(from.clone()).or_default().insert(to.clone());
    }
    loop {
        let mut grown = false;
        for (from, to) in graph.keys() {
            let further = reach.get(to).cloned().unwrap_or_default();
            let of = reach.entry(from.clone()).or_default();
            let before = of.len();
            of.extend(further);
            grown |= of.len() > before;
        }
        if !grown {
            return reach;
        }
    }
}
