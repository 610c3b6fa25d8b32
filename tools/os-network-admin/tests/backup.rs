//! `backup` and `restore` as a user runs them, and what the disk may do meanwhile.

mod listing;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crypto::Secret;
use os_network_admin::{
    base::key::{Cost, KeyFile},
    registry::{NewMember, Registry, Who},
};
use serde_json::Value;

use listing::listing;

struct Home(tempfile::TempDir);

impl Home {
    /// A key, a registry with a fleet and a peer, and its mesh key.
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        KeyFile::seal(&Secret::new([7; 32]), b"open sesame", cost).unwrap().store(&home.path("key")).unwrap();
        fs::create_dir(home.path("data")).unwrap();
        let registry = Registry::open(&home.path("data/registry")).unwrap();
        let fleet = registry.make_fleet(&[5; 32], "default").unwrap();
        registry.set_authority(&fleet.id, &registry.make_mesh_key().unwrap().public()).unwrap();
        let who = Who::Peer("laptop".into());
        let new = NewMember { who: &who, key: [9; 32], claim_key: None, underlay: None, authority: None };
        registry.enroll(&fleet, &new).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, limit: Option<u32>, arguments: &[&str]) -> Output {
        // In blocks of 512 bytes; a write past it fails, as on a full disk.
        let limit = limit.map_or("unlimited".into(), |limit| limit.to_string());
        let line = format!("ulimit -f {limit}; exec {} \"$@\"", env!("CARGO_BIN_EXE_os-network-admin"));
        let mut command = Command::new("sh");
        command.args(["-c", &line, "sh", "--key", "key", "--registry", "data/registry"]).args(arguments);
        command.current_dir(self.0.path()).stdin(Stdio::null()).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(None, &[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str], code: i32, message: &str) {
        let before = listing(self.0.path());
        let output = self.command(None, arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(message), "{arguments:?}: {text}");
        assert_eq!(listing(self.0.path()), before, "{arguments:?} left something behind");
    }
}

#[test]
fn a_host_that_is_lost_is_there_again_from_one_file() {
    let home = Home::new();
    let made = home.json(&["backup", "b"]);
    assert_eq!((&made["mesh_key"], &made["key"], &made["path"]), (&true.into(), &true.into(), &"b".into()));
    assert_eq!(fs::metadata(home.path("b")).unwrap().permissions().mode() & 0o777, 0o600);
    home.fails(&["backup", "b"], 3, "is not overwritten");
    home.json(&["backup", "b", "--force"]);
    home.fails(&["backup", "key", "--force"], 3, "is not overwritten");
    let [key, mesh_key] = ["key", "data/mesh.key"].map(|name| fs::read(home.path(name)).unwrap());
    fs::remove_file(home.path("key")).unwrap();
    fs::remove_dir_all(home.path("data")).unwrap();
    let restored = home.json(&["restore", "b"]);
    assert_eq!([&restored["registry"], &restored["mesh_key"], &restored["key"]], ["restored"; 3]);
    assert!(
        restored["check"].as_array().unwrap().iter().any(|line| line.as_str().unwrap().contains("--counter-ahead"))
    );
    assert_eq!(["key", "data/mesh.key"].map(|name| fs::read(home.path(name)).unwrap()), [key, mesh_key]);
    for name in ["key", "data/mesh.key", "data/registry"] {
        assert_eq!(fs::metadata(home.path(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(home.json(&["policy", "show"])["fleet"], "default");
    // A restore that was ended between the keys and the registry goes on.
    fs::remove_file(home.path("data/registry")).unwrap();
    let on = home.json(&["restore", "b"]);
    assert_eq!([&on["registry"], &on["mesh_key"], &on["key"]], ["restored", "kept", "kept"]);
    // And into what is there.
    let again = home.json(&["restore", "b"]);
    assert_eq!([&again["registry"], &again["mesh_key"], &again["key"]], ["merged", "kept", "kept"]);
    assert!(again["check"][0].as_str().unwrap().starts_with("2 counters stood higher here"), "{again}");
}

#[test]
fn a_backup_that_is_not_whole_or_not_of_these_keys_changes_nothing() {
    let home = Home::new();
    home.json(&["backup", "b"]);
    let whole = fs::read(home.path("b")).unwrap();
    let private = |name: &str, bytes: &[u8]| {
        fs::write(home.path(name), bytes).unwrap();
        fs::set_permissions(home.path(name), Permissions::from_mode(0o600)).unwrap();
    };
    private("cut", &whole[..whole.len() - 1]);
    home.fails(&["restore", "cut"], 3, "damaged or not whole");
    private("other", b"no backup");
    home.fails(&["restore", "other"], 3, "is no backup");
    home.fails(&["restore", "nowhere"], 3, "cannot read the backup nowhere");
    fs::set_permissions(home.path("b"), Permissions::from_mode(0o644)).unwrap();
    home.fails(&["restore", "b"], 3, "chmod 600 b");
    private("b", &whole);
    // Another's key, another's mesh key, a registry that knows more.
    let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
    let key = fs::read(home.path("key")).unwrap();
    let other = KeyFile::seal(&Secret::new([8; 32]), b"open sesame", cost).unwrap().to_text();
    private("key", other.as_bytes());
    home.fails(&["restore", "b"], 3, "the key file key is not the backup's");
    private("key", &key);
    let mesh_key = fs::read(home.path("data/mesh.key")).unwrap();
    private("data/mesh.key", b"GGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGGI=\n");
    home.fails(&["restore", "b"], 3, "the mesh key data/mesh.key is not the backup's");
    private("data/mesh.key", &mesh_key);
    home.json(&["export", "phone"]);
    home.fails(&["restore", "b"], 3, "1 places in the mesh and 0 fleets that the backup lacks");
}

#[test]
fn on_a_full_disk_nothing_is_said_to_be_done_that_is_not_and_then_the_same_goes_on() {
    let home = Home::new();
    home.json(&["backup", "b"]);
    let lost = Home(tempfile::tempdir().unwrap());
    fs::copy(home.path("b"), lost.path("b")).unwrap();
    let verbs: [(&Home, &[&str]); 5] = [
        (&lost, &["restore", "b"]),
        (&home, &["policy", "set", "in peer tcp 22"]),
        (&home, &["export", "phone"]),
        (&home, &["revoke", "laptop", "--yes"]),
        (&home, &["backup", "c"]),
    ];
    for (home, verb) in verbs {
        let mut failed = 0;
        for limit in [Some(0), Some(1), Some(16), Some(128), None] {
            let before = listing(home.0.path());
            let output = home.command(limit, verb);
            if output.status.success() {
                assert!(listing(home.0.path()) != before, "{verb:?} within {limit:?}");
                break;
            }
            assert!(matches!(output.status.code(), Some(1 | 7)), "{verb:?} within {limit:?}: {output:?}");
            // What cannot even be taken back now is taken back by whoever opens the registry next.
            home.command(None, &["policy", "show"]);
            let (after, text) = (listing(home.0.path()), String::from_utf8_lossy(&output.stderr).into_owned());
            let changed: Vec<_> = after.iter().filter(|file| !before.contains(file)).map(|(path, _)| path).collect();
            assert!(after == before, "{verb:?} within {limit:?} left {changed:?} behind: {text}");
            failed += 1;
        }
        assert!((1..5).contains(&failed), "{verb:?} failed {failed} times");
    }
    assert_eq!(lost.json(&["policy", "show"])["fleet"], "default");
}
