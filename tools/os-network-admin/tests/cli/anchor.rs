//! `anchor`.

use std::fs;

use crypto::AnchorSecret;
use os_network_admin::base::key::{self, KeyFile};
use wire::anchor::{Anchor, AnchorFile, AnchorIn};

use super::{Home, json};

#[test]
fn anchor_replaces_an_anchor_and_nothing_else() {
    let home = Home::with_key();
    let key = fs::read(home.path("key")).unwrap();
    home.private("notes", b"of another kind");
    for taken in ["key", "pass", "notes"] {
        home.fails(&["anchor", "--out", taken], 3, "is not overwritten");
    }
    assert_eq!(fs::read(home.path("key")).unwrap(), key);
    let other = AnchorFile::first(&AnchorSecret::from_seed(&[9; 32]).public());
    fs::write(home.path("anchor.bin"), other).unwrap();
    json(&home.run(&["anchor", "--out", "anchor.bin", "--json"]));
    assert_ne!(fs::read(home.path("anchor.bin")).unwrap(), other);
}

fn naming<'a>(authorities: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    let named = authorities.iter().flat_map(|name| ["--authority", name]);
    ["anchor", "--out", "anchor.bin"].into_iter().chain(named).chain(more.iter().copied()).collect()
}

#[test]
fn anchor_names_who_must_sign_or_writes_nothing() {
    let home = Home::with_key();
    let own = KeyFile::load(&home.path("key")).unwrap().public();
    let publics: Vec<_> = (20..28).map(|byte| AnchorSecret::from_seed(&[byte; 32]).public()).collect();
    let mut names: Vec<String> = publics.iter().map(key::public_text).collect();
    // Somebody's anchor.bin names him as well as his key does.
    fs::write(home.path("third.bin"), AnchorFile::first(&publics[2])).unwrap();
    names[2] = "third.bin".into();
    let refused: [(usize, &[&str], i32, &str); 5] = [
        (5, &["--needed", "2"], 3, "--needed 2 is no majority of 5 keys"),
        (5, &["--needed", "6"], 3, "name a number from 3 to 5"),
        (5, &["--authority", &names[1]], 3, "is named twice"),
        (8, &[], 3, "an anchor has at most 7 authorities"),
        (0, &["--needed", "1"], 2, "--authority"),
    ];
    for (count, more, code, message) in refused {
        home.fails(&naming(&names[..count], more), code, message);
        assert!(!home.path("anchor.bin").exists());
    }
    for (count, more, needed) in [(5, &[][..], 3), (2, &[], 2), (7, &["--needed", "6"], 6), (1, &[], 1)] {
        assert!(home.run(&naming(&names[..count], more)).status.success());
        let keys: Vec<_> = publics[..count].iter().map(|public| public.sign).collect();
        let expected = Anchor::new(&own, needed, &keys).unwrap();
        assert_eq!(AnchorFile::read_file(&fs::read(home.path("anchor.bin")).unwrap()), AnchorIn::Some(expected));
    }
}
