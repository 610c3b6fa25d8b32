//! One segment, one administrator, three platforms. `make test-sel4` runs this; it needs the seL4 images.

use genesis_tests::{
    bed::{Bed, image},
    tool::{Tool, json, said},
};

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn one_administrator_claims_a_native_node_and_one_of_each_board() {
    let bed = Bed::new();
    let tool = Tool::new(&bed, "admin");
    let anchor = tool.anchor();
    let boards = ["native", "qemu_virt_aarch64", "qemu_virt_riscv64"];
    let nodes = boards.map(|board| bed.node_on(board, image(&anchor)));
    nodes.iter().for_each(|node| node.wait_phase("hold"));
    for node in &nodes {
        let output = tool.on_segment(&["claim", "--fingerprint", &node.fingerprint()]);
        assert_eq!(output.status.code(), Some(0), "{}\n{}", said(&output), node.console());
        assert_eq!(json(&output)["node"]["fingerprint"], node.fingerprint());
        node.wait_phase("claimed");
    }
    let registered = tool.nodes();
    assert_eq!(registered.len(), 3);
    assert!(registered.iter().all(|node| node["state"] == "paired" && node["acknowledged"] == true));
}
