//! The modules of a crate: what each defines, imports and names.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Attribute, Expr, ExprLit, Item, ItemMod, ItemUse, Lit, Macro, Meta, Path, UseTree,
    ext::IdentExt,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::{
    Tree,
    tree::{directory, join},
};

/// A module without its tests.
#[derive(Default)]
pub(super) struct Module {
    pub children: BTreeMap<String, Module>,
    /// What is defined here by name.
    pub items: BTreeSet<String>,
    /// What is imported here by name, for those who name it through this module.
    pub imports: BTreeMap<String, Vec<String>>,
    /// Modules of which everything is imported.
    pub globs: Vec<Vec<String>>,
    /// Each path in this module's code that begins with `crate`, `self` or `super`.
    pub references: Vec<Reference>,
}

pub(super) struct Reference {
    /// As it is written.
    pub path: Vec<String>,
    pub file: String,
    pub line: usize,
}

/// The crate whose root is `file`.
pub(super) fn read(tree: &Tree, file: &str) -> Result<Module> {
    read_file(tree, file, directory(file))
}

/// `home` is where the files of the module's children are.
fn read_file(tree: &Tree, file: &str, home: &str) -> Result<Module> {
    let text = tree.text(file).with_context(|| format!("{file}: not there"))?;
    let parsed = syn::parse_file(text).with_context(|| file.to_owned())?;
    read_items(tree, file, home, &parsed.items)
}

fn read_items(tree: &Tree, file: &str, home: &str, items: &[Item]) -> Result<Module> {
    let mut reader = Reader { file, module: Module::default() };
    let mut children = Vec::new();
    for item in items {
        reader.define(item);
        match item {
            Item::Mod(item) if !is_test(&item.attrs) => children.push(item),
            // A module under test alone has none of the crate's code.
            Item::Mod(_) => {}
            item => reader.visit_item(item),
        }
    }
    let mut module = reader.module;
    for item in children {
        let name = item.ident.unraw().to_string();
        module.children.insert(name, read_module(tree, file, home, item)?);
    }
    Ok(module)
}

fn read_module(tree: &Tree, file: &str, home: &str, item: &ItemMod) -> Result<Module> {
    let own = format!("{home}/{}", item.ident.unraw());
    if let Some((_, items)) = &item.content {
        return read_items(tree, file, &own, items);
    }
    if let Some(path) = item.attrs.iter().find_map(path_attribute) {
        let file = join(directory(file), &path).with_context(|| format!("{file}: {path}"))?;
        return read_file(tree, &file, directory(&file));
    }
    let flat = format!("{own}.rs");
    if tree.is_file(&flat) { read_file(tree, &flat, &own) } else { read_file(tree, &format!("{own}/mod.rs"), &own) }
}

fn path_attribute(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("path") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(path), .. }) => Some(path.value()),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the attributes have `cfg(test)`, alone or as a part of `all`.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string().replace(' ', "");
            condition == "test" || condition.starts_with("all(test,")
        }
        _ => false,
    })
}

struct Reader<'a> {
    file: &'a str,
    module: Module,
}

impl Reader<'_> {
    fn define(&mut self, item: &Item) {
        let name = match item {
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Union(item) => &item.ident,
            Item::Use(item) if !is_test(&item.attrs) => return self.import(Vec::new(), &item.tree),
            _ => return,
        };
        self.module.items.insert(name.unraw().to_string());
    }

    fn import(&mut self, mut path: Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.unraw().to_string());
                self.import(path, &tree.tree);
            }
            UseTree::Name(tree) if tree.ident == "self" => {
                if let Some(name) = path.last().cloned() {
                    self.module.imports.insert(name, path);
                }
            }
            UseTree::Name(tree) => {
                let name = tree.ident.unraw().to_string();
                path.push(name.clone());
                self.module.imports.insert(name, path);
            }
            UseTree::Rename(tree) => {
                if tree.ident != "self" {
                    path.push(tree.ident.unraw().to_string());
                }
                self.module.imports.insert(tree.rename.unraw().to_string(), path);
            }
            UseTree::Glob(_) => self.module.globs.push(path),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(path.clone(), tree)),
        }
    }

    fn refer(&mut self, path: Vec<String>, span: Span) {
        let roots = ["crate", "self", "super"];
        if path.len() > 1 && roots.contains(&path[0].as_str()) {
            self.module.references.push(Reference { path, file: self.file.to_owned(), line: span.start().line });
        }
    }

    fn refer_by_use(&mut self, mut path: Vec<String>, tree: &UseTree) {
        match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.unraw().to_string());
                self.refer_by_use(path, &tree.tree);
            }
            UseTree::Name(syn::UseName { ident }) | UseTree::Rename(syn::UseRename { ident, .. }) => {
                if ident != "self" || path.is_empty() {
                    path.push(ident.unraw().to_string());
                }
                self.refer(path, ident.span());
            }
            UseTree::Glob(glob) => self.refer(path, glob.span()),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.refer_by_use(path.clone(), tree)),
        }
    }

    /// The paths in what is handed to a macro, which need not be Rust.
    fn refer_by_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut start = Span::call_site();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.refer(std::mem::take(&mut path), start);
                        start = ident.span();
                    }
                    path.push(ident.unraw().to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && colons < 2 => colons += 1,
                other => {
                    self.refer(std::mem::take(&mut path), start);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.refer_by_tokens(group.stream());
                    }
                }
            }
        }
        self.refer(path, start);
    }
}

impl<'a> Visit<'a> for Reader<'_> {
    fn visit_item(&mut self, item: &'a Item) {
        let attributes = match item {
            Item::Const(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Macro(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            Item::Type(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        self.refer_by_use(Vec::new(), &item.tree);
    }

    fn visit_path(&mut self, path: &'a Path) {
        let words = path.segments.iter().map(|segment| segment.ident.unraw().to_string()).collect();
        self.refer(words, path.span());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'a Macro) {
        visit::visit_macro(self, item);
        self.refer_by_tokens(item.tokens.clone());
    }

    /// `pub(in crate::a)` names a module and needs nothing of it.
    fn visit_visibility(&mut self, _: &'a syn::Visibility) {}
}
