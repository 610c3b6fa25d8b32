//! The domains are built in a workspace of their own, which repeats what the cores inherit: this keeps the two equal.

use std::fs;

use toml::{Table, Value};

fn workspace(file: &str) -> Table {
    let text = fs::read_to_string(format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let manifest: Table = text.parse().unwrap();
    manifest["workspace"].as_table().unwrap().clone()
}

#[test]
fn the_cores_inherit_the_same_from_either_workspace() {
    let (portable, domains) = (workspace("Cargo.toml"), workspace("pds/Cargo.toml"));
    for what in ["resolver", "package", "lints"] {
        assert_eq!(domains[what], portable[what], "{what}");
    }
    let dependencies = |of: &Table| of["dependencies"].as_table().unwrap().clone();
    let portable = dependencies(&portable);
    let mut shared = 0;
    for (name, value) in dependencies(&domains) {
        if let Some(wanted) = portable.get(&name) {
            assert_eq!(&value, wanted, "{name}");
            shared += 1;
        } else {
            let own = value.get("path").and_then(Value::as_str).is_none_or(|path| !path.starts_with("crates/"));
            assert!(own, "{name} is a core that the portable workspace does not know");
        }
    }
    assert!(shared > 20);
}
