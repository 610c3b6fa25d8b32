//! A small image, its description and board, and how tests change them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sysdesc::{
    Board, elaborate,
    image::{
        capdl::Spec,
        policy::Policy,
        rules::{Violation, check},
    },
};

const POLICY: Policy<'static> =
    Policy { guarded: "keystore", outlets: &[("reply", "lifecycle")], public: &["request"] };

pub struct Bed {
    system: String,
    board: String,
    image: Value,
}

impl Bed {
    pub fn good() -> Self {
        Self {
            system: include_str!("../capdl/system.xml").to_owned(),
            board: include_str!("../capdl/board.toml").to_owned(),
            image: serde_json::from_str(include_str!("../capdl/good.json")).unwrap(),
        }
    }

    /// One change, as the files in `bad-capdl/` state it. A change that finds nothing to change panics.
    pub fn change(&mut self, change: &Value) {
        let text = |key: &str| change[key].as_str().unwrap();
        let pair = |key: &str| {
            let pair = change[key].as_array().unwrap();
            (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())
        };
        let key = change.as_object().unwrap().keys().find(|key| !matches!(key.as_str(), "value" | "slot" | "cap"));
        match (key.unwrap().as_str(), change.get("cap")) {
            ("system", _) => replace(&mut self.system, pair("system")),
            ("board", _) => replace(&mut self.board, pair("board")),
            // An object that is not there yet.
            ("add", _) => self.objects().push(change["add"].clone()),
            ("copy", _) => {
                let (from, to) = pair("copy");
                let mut copy = self.object(from).clone();
                copy["name"] = to.into();
                self.objects().push(copy);
            }
            // All that named it names the new one.
            ("rename", _) => {
                let (from, to) = pair("rename");
                self.object(from)["name"] = to.into();
                rename(&mut self.image, from, to);
            }
            ("top", _) => *self.image.pointer_mut(text("top")).unwrap() = change["value"].clone(),
            // What stands in a slot; null empties it.
            (_, Some(cap)) => {
                let slots = self.body(text("of"))["slots"].as_array_mut().unwrap();
                let before = slots.len();
                slots.retain(|entry| entry["slot"] != change["slot"]);
                if cap.is_null() {
                    assert_eq!(slots.len() + 1, before);
                } else {
                    slots.push(json!({"slot": change["slot"], "cap": cap}));
                }
            }
            // Anything in an object.
            _ => {
                let (body, at) = (self.body(text("of")), text("at"));
                match body.pointer_mut(at) {
                    Some(old) => *old = change["value"].clone(),
                    None => {
                        let (parent, key) = at.rsplit_once('/').unwrap();
                        body.pointer_mut(parent).unwrap()[key] = change["value"].clone();
                    }
                }
            }
        }
    }

    /// Why it is refused: every message.
    pub fn judge(&self) -> Vec<String> {
        self.judge_linked(&self.linked())
    }

    pub fn judge_linked(&self, image: &Value) -> Vec<String> {
        let board = Board::parse(&self.board).unwrap();
        let system = elaborate(&self.system, &board).unwrap();
        match Spec::parse(&image.to_string()) {
            Ok(spec) => check(&system, &board, &POLICY, &spec).iter().map(Violation::to_string).collect(),
            // Where in the text is of no interest.
            Err(bad) => vec![bad.to_string().split(" at line ").next().unwrap().to_owned()],
        }
    }

    /// As the tool writes it.
    pub fn linked(&self) -> Value {
        let mut image = self.image.clone();
        let objects = image["objects"].as_array().unwrap();
        let names = objects.iter().map(|object| object["name"].as_str().unwrap().to_owned());
        let ids: BTreeMap<_, _> = names.zip(0usize..).collect();
        let count = objects.len();
        if self.image["root_objects"]["end"] == json!(Self::good_count()) {
            image["root_objects"]["end"] = count.into();
        }
        link(&mut image, &ids);
        image
    }

    fn good_count() -> usize {
        let good: Value = serde_json::from_str(include_str!("../capdl/good.json")).unwrap();
        good["objects"].as_array().unwrap().len()
    }

    fn objects(&mut self) -> &mut Vec<Value> {
        self.image["objects"].as_array_mut().unwrap()
    }

    fn object(&mut self, name: &str) -> &mut Value {
        let object = self.objects().iter_mut().find(|object| object["name"] == name);
        object.unwrap_or_else(|| panic!("there is no object {name}"))
    }

    /// What stands in an object under its kind.
    fn body(&mut self, name: &str) -> &mut Value {
        self.object(name)["object"].as_object_mut().unwrap().values_mut().next().unwrap()
    }
}

fn replace(text: &mut String, (from, to): (&str, &str)) {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    *text = text.replace(from, to);
}

/// Names to numbers, letters to rights.
fn link(value: &mut Value, ids: &BTreeMap<String, usize>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| link(item, ids)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value.as_str()) {
                    ("object" | "handler", Some(name)) if ids.contains_key(name) => *value = ids[name].into(),
                    ("rights", Some(rights)) => {
                        *value = json!({
                            "read": rights.contains('r'),
                            "write": rights.contains('w'),
                            "grant": rights.contains('g'),
                            "grant_reply": false,
                        });
                    }
                    _ => link(value, ids),
                }
            }
        }
        _ => {}
    }
}

fn rename(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, from, to)),
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value.as_str()) {
                    ("object" | "handler", Some(name)) if name == from => *value = to.into(),
                    _ => rename(value, from, to),
                }
            }
        }
        _ => {}
    }
}
