//! Compares the properties that `kernel-config/` demands of a kernel with the configuration that an SDK's was built with.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Properties by their name in seL4's `gen_config.json`.
pub type Properties = BTreeMap<String, Property>;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Property {
    Flag(bool),
    Text(String),
}

/// Every demand that is not met, in words. `demands` are files with what they say; none may contradict another.
pub fn unmet(demands: &[(&str, Properties)], built: &Properties) -> Vec<String> {
    let mut unmet = Vec::new();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (file, properties) in demands {
        for (name, wanted) in properties {
            if let Some(first) = seen.insert(name, file) {
                unmet.push(format!("{name} is demanded by {first} and by {file}"));
            }
            match built.get(name) {
                Some(value) if value == wanted => {}
                Some(value) => unmet.push(format!("{name} is {value}, and {file} demands {wanted}")),
                None => unmet.push(format!("{name} is unknown to this kernel, and {file} demands {wanted}")),
            }
        }
    }
    unmet
}

impl std::fmt::Display for Property {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demands(text: &str) -> Properties {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn each_demand_is_met_or_named() {
        let built = serde_json::from_str(r#"{"KERNEL_MCS": true, "PRINTING": true, "MAX_NUM_NODES": "4"}"#).unwrap();
        let all = ("all.toml", demands("KERNEL_MCS = true\nMAX_NUM_NODES = \"1\""));
        let release = ("release.toml", demands("PRINTING = false\nARM_SMMU = false\nKERNEL_MCS = true"));
        assert_eq!(
            unmet(&[all, release], &built),
            [
                "MAX_NUM_NODES is \"4\", and all.toml demands \"1\"",
                "ARM_SMMU is unknown to this kernel, and release.toml demands false",
                "KERNEL_MCS is demanded by all.toml and by release.toml",
                "PRINTING is true, and release.toml demands false",
            ]
        );
    }

    #[test]
    fn a_flag_is_no_text() {
        let built = serde_json::from_str(r#"{"KERNEL_MCS": "true"}"#).unwrap();
        assert_eq!(unmet(&[("all.toml", demands("KERNEL_MCS = true"))], &built).len(), 1);
    }
}
