//! One segment, one administrator, every platform. `make test-sel4` runs this; it needs the seL4 images.

use genesis_tests::{
    bed::{Bed, image},
    tool::{Tool, json, said},
};
use lab::NATIVE;
use sysdesc::image::assemble::sel4_boards;

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn one_administrator_claims_a_native_node_and_one_of_each_board() {
    let bed = Bed::new();
    let tool = Tool::new(&bed, "admin");
    let anchor = tool.anchor();
    let boards = sel4_boards().expect("boards/");
    let boards = [NATIVE].into_iter().chain(boards.iter().map(String::as_str));
    let nodes: Vec<_> = boards.map(|board| bed.node_on(board, image(&anchor))).collect();
    nodes.iter().for_each(|node| node.wait_phase("hold"));
    for node in &nodes {
        let output = tool.on_segment(&["claim", "--fingerprint", &node.fingerprint()]);
        assert_eq!(output.status.code(), Some(0), "{}\n{}", said(&output), node.console());
        assert_eq!(json(&output)["node"]["fingerprint"], node.fingerprint());
        node.wait_phase("claimed");
    }
    let registered = tool.nodes();
    assert_eq!(registered.len(), nodes.len());
    assert!(registered.iter().all(|node| node["state"] == "paired" && node["acknowledged"] == true));
}
