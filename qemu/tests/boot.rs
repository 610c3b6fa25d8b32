//! Every board, release, from power-on to hold. `make test-sel4` runs this; it needs the SDK, QEMU and the built domains.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use qemu::{Machine, Setup};
use sysdesc::image::assemble::{Recipe, sel4_boards};

/// A hang detector.
const PATIENCE: Duration = Duration::from_secs(120);

fn boots_to_hold(board: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut recipe = Recipe::new(board, "release");
    // Parameters with the magic and a scan of no length: straight to the fork.
    let mut params = [0; 48];
    params[..8].copy_from_slice(b"GNSPARM1");
    recipe.prefill.insert("params".into(), params.to_vec());
    let image = recipe.build(dir.path()).unwrap();
    let (machine, console) = Machine::boot(&Setup {
        board,
        image: &image,
        dir: dir.path(),
        device_secret: &[7; 32],
        mac: [2, 0, 0, 0, 0, 1],
        net: None,
        entropy: Path::new("/dev/urandom"),
    })
    .unwrap();
    let (tell, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let _ = tell.send(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let mut said = Vec::new();
    while said.last().is_none_or(|line| line != "genesis: phase hold") {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => said.push(line),
            Err(_) => panic!("{board} did not reach hold:\n{}", said.join("\n")),
        }
    }
    let phases: Vec<_> = said.iter().filter_map(|line| line.strip_prefix("genesis: phase ")).collect();
    assert_eq!(phases, ["blind", "fork", "hold"]);
    assert_eq!(said.iter().filter(|line| line.contains(" fault ")).count(), 0);
    assert!(said.iter().any(|line| line.ends_with(" 02:00:00:00:00:01")), "the network device has another address");
    drop(machine);
    reader.join().unwrap();
}

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn every_board_boots_to_hold() {
    sel4_boards().unwrap().iter().for_each(|board| boots_to_hold(board));
}
