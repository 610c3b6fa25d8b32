//! Whoever has an image learns no secret: not the device's, not the node's, not the administrator's. `make test-sel4`
//! runs this; it needs the seL4 images.

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader},
    path::Path,
};

use calls::params::Params;
use crypto::AnchorSecret;
use genesis_tests::admin::fresh;
use qemu::{Machine, Setup};
use sysdesc::image::assemble::{Recipe, sel4_boards};
use wire::{
    anchor::{Anchor, AnchorFile},
    ticket::Ticket,
};
use zerocopy::IntoBytes;

/// What must not be in an image, cut into pieces that are known again: eight bytes of it, as they are, as hexadecimal
/// digits, and as capDL writes bytes.
struct Sought(HashSet<Vec<u8>>);

/// The lengths of what is sought: a form is cut to the longest that is not above its own.
const LENGTHS: [usize; 3] = [8, 15, 16];

impl Sought {
    fn new(secrets: &[&[u8]]) -> Self {
        let mut all = HashSet::new();
        for piece in secrets.iter().flat_map(|secret| secret.windows(8)) {
            let hex = piece.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let numbers = piece.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
            for form in [piece, hex.as_bytes(), hex.to_uppercase().as_bytes(), numbers.as_bytes()] {
                let length =
                    LENGTHS.into_iter().rfind(|length| *length <= form.len()).expect("not shorter than a piece");
                all.insert(form[..length].to_vec());
            }
        }
        Self(all)
    }

    /// Spaces and lines in a text do not matter.
    fn is_in(&self, contents: &[u8]) -> bool {
        let found = |bytes: &[u8]| {
            LENGTHS.into_iter().any(|length| bytes.windows(length).any(|window| self.0.contains(window)))
        };
        found(contents)
            || found(&contents.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>())
    }
}

/// All that an image is and was made of.
fn files(board: &str, image: &Path) -> Vec<(String, Vec<u8>)> {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/pds/{board}-release"));
    let all = |dir: &Path| -> Vec<_> { fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect() };
    let built = all(&programs).into_iter().map(|target| target.join("release"));
    let built = built.filter(|dir| dir.join("keystore").is_file());
    let files = built.flat_map(|dir| all(&dir)).chain(all(image.parent().unwrap())).filter(|file| file.is_file());
    files.map(|file| (file.display().to_string(), fs::read(&file).unwrap())).collect()
}

fn no_secret_is_in_an_image(board: &str) {
    let dir = tempfile::tempdir().unwrap();
    let [made, machine, anchored] = ["made", "machine", "anchored"].map(|name| dir.path().join(name));
    fs::create_dir(&machine).unwrap();
    let params = Params { scan_ms: 0.into(), ..Params::DEFAULT };
    let recipe = || {
        let mut recipe = Recipe::new(board, "release");
        recipe.prefill.insert("params".into(), params.as_bytes().to_vec());
        recipe
    };
    let image = recipe().build(&made).unwrap();

    // A node of this image shows the secret that it has made, and its machine has one of its own.
    let device_secret = fresh();
    let (powered, console) = Machine::boot(&Setup {
        board,
        image: &image,
        dir: &machine,
        device_secret: &device_secret,
        mac: [2, 0, 0, 0, 0, 1],
        net: None,
        entropy: Path::new("/dev/urandom"),
    })
    .unwrap();
    let mut lines = BufReader::new(console).lines().map_while(Result::ok);
    let ticket = lines.find_map(|line| line.strip_prefix("genesis: ticket ").map(|text| text.trim_end().to_owned()));
    let ticket = Ticket::from_text(&ticket.unwrap()).unwrap();
    drop(powered);
    let secrets = Sought::new(&[&device_secret, &ticket.secret]);
    for (name, contents) in files(board, &image) {
        assert!(!secrets.is_in(&contents), "{name} has a secret");
    }

    // An image with an anchor has its public keys, which shows that what is there is found, and not the private ones.
    let seed = fresh();
    let anchor = AnchorSecret::from_seed(&seed);
    let mut recipe = recipe();
    recipe.prefill.insert("anchor".into(), AnchorFile::new(&Anchor::alone(&anchor.public())).as_bytes().to_vec());
    let image = recipe.build(&anchored).unwrap();
    let (public, secrets) = (anchor.public(), Sought::new(&[&seed, &*anchor.sign, &*anchor.dh]));
    for (name, contents) in files(board, &image) {
        assert!(!secrets.is_in(&contents), "{name} has a secret");
        let shown = name.ends_with("/loader.img") || name.ends_with("/capdl.json") || name.ends_with("/anchor.bin");
        for key in [public.sign, public.dh] {
            assert_eq!(Sought::new(&[&key]).is_in(&contents), shown, "an anchor's key and {name}");
        }
    }

    // Nor can the device's secret be put there.
    recipe.prefill.insert("device_secret_file".into(), device_secret.to_vec());
    let refused = format!("{:#}", recipe.build(&anchored).unwrap_err());
    assert!(refused.contains("public-image: device_secret is prefilled"), "{refused}");
    assert!(!anchored.join("loader.img").exists(), "an image that was refused is there");
}

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn no_secret_is_in_an_image_nor_can_be_put_there() {
    sel4_boards().expect("boards/").iter().for_each(|board| no_secret_is_in_an_image(board));
}
