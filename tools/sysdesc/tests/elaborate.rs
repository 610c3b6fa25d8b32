//! What elaboration makes of good systems.

use std::{ffi::OsStr, fs};

use sysdesc::{Board, DeviceKind, Perms, elaborate};

const PROJECT: &str = include_str!("../../../system.xml");
const NATIVE: &str = include_str!("../../../boards/native.toml");

const MICROKIT: &str = r#"
platform = "microkit"

[vars]
prio = 7
none = ""

[[device.net.nic.region]]
name = "nic_mmio"
size = 0x1000
phys_addr = 0xa003000
vaddr = 0x30000000
perms = "rw"
cached = false
setvar_vaddr = "nic_mmio"

[[device.net.nic.region]]
name = "nic_dma"
size = 0x200000
page_size = 0x200000
vaddr = 0x40000000
perms = "rw"
setvar_paddr = "nic_dma_paddr"

[[device.net.nic.irq]]
irq = 79
id = 3
trigger = "edge"
setvar_id = "nic_irq"
"#;

#[test]
fn the_projects_system_elaborates_for_native() {
    let board = Board::parse(NATIVE).unwrap();
    let system = elaborate(PROJECT, &board).unwrap();
    let names: Vec<_> = system.all_domains().iter().map(|domain| domain.name.as_str()).collect();
    assert_eq!(names[..3], ["keystore", "lifecycle", "entropy"]);
    assert_eq!(names.len(), PROJECT.matches("<protection_domain ").count());
    let net = system.domain("net").unwrap();
    assert_eq!(net.devices[0].kind, Some(DeviceKind::SwitchPort));
    assert_eq!(net.image.path, "net");
    // What came out empty is left away.
    assert_eq!(system.region("device_secret").unwrap().phys_addr, None);
    assert_eq!(system.domain("timer").unwrap().budget, None);
    // Written and read again, it is the same but for the lines.
    let xml = system.to_xml("system.xml -- for native");
    let again = elaborate(&xml, &board).unwrap();
    assert_eq!(again.to_xml("system.xml -- for native"), xml);
}

#[test]
fn the_projects_system_elaborates_for_every_board() {
    let mut boards = 0;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../boards")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() == Some(OsStr::new("toml")) {
            let board = Board::parse(&fs::read_to_string(&path).unwrap()).unwrap();
            elaborate(PROJECT, &board).unwrap_or_else(|refused| panic!("{}: {refused}", path.display()));
            boards += 1;
        }
    }
    assert!(boards >= 3);
}

#[test]
fn nobody_but_the_keystore_writes_what_holds_the_ticket_or_reads_the_device_secret() {
    let system = elaborate(PROJECT, &Board::parse(NATIVE).unwrap()).unwrap();
    let mappers = |region: &str| -> Vec<(String, Perms)> {
        let of = |domain: &sysdesc::Domain| {
            domain.maps.iter().find(|map| map.region == region).map(|map| (domain.name.clone(), map.perms))
        };
        system.all_domains().into_iter().filter_map(of).collect()
    };
    assert_eq!(mappers("device_secret"), [("keystore".to_owned(), Perms::Read)]);
    let ticket = [("keystore".to_owned(), Perms::ReadWrite), ("console".to_owned(), Perms::Read)];
    assert_eq!(mappers("keystore_console"), ticket);
}

#[test]
fn a_board_supplies_regions_and_interrupts_and_the_result_is_plain_sdf() {
    let text = r#"<system>
        <protection_domain name="net" priority="${prio}" budget="${none}">
            <program_image path="a&amp;b"/>
            <device name="nic"/>
        </protection_domain>
    </system>"#;
    let xml = elaborate(text, &Board::parse(MICROKIT).unwrap()).unwrap().to_xml("a test");
    assert_eq!(
        xml,
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!-- Made from a test. Do not edit. -->
<system>
    <memory_region name="nic_mmio" size="0x1000" phys_addr="0xa003000"/>
    <memory_region name="nic_dma" size="0x200000" page_size="0x200000"/>
    <protection_domain name="net" priority="7">
        <program_image path="a&amp;b"/>
        <map mr="nic_mmio" vaddr="0x30000000" perms="rw" cached="false" setvar_vaddr="nic_mmio"/>
        <map mr="nic_dma" vaddr="0x40000000" perms="rw"/>
        <irq irq="79" id="3" trigger="edge" setvar_id="nic_irq"/>
        <setvar symbol="nic_dma_paddr" region_paddr="nic_dma"/>
    </protection_domain>
</system>
"#
    );
}

#[test]
fn a_variable_can_be_set_over_the_boards_and_is_not_expanded_again() {
    let mut board = Board::parse(MICROKIT).unwrap();
    board.set("prio", "${none}");
    let text = r#"<system><protection_domain name="a" priority="${prio}"><program_image path="a"/></protection_domain></system>"#;
    let refused = elaborate(text, &board).unwrap_err().to_string();
    assert_eq!(refused, "line 1: priority=\"${none}\" is no plain decimal number in range");
}

#[test]
fn a_board_with_an_unknown_key_is_refused() {
    for text in [
        "platform = \"linux\"",
        "platform = \"native\"\nchannel = []",
        "platform = \"native\"\n[device.net.nic]\nkind = \"bridge\"",
        "platform = \"microkit\"\n[device.net.nic]\nmap = \"params\"",
    ] {
        assert!(Board::parse(text).is_err(), "{text}");
    }
}

#[test]
fn another_program_in_a_domains_place_changes_one_line() {
    let board = Board::parse(NATIVE).unwrap();
    let real = elaborate(PROJECT, &board).unwrap();
    for name in real.all_domains().into_iter().map(|domain| domain.name.as_str()) {
        let mut other = real.clone();
        let image = other.image_mut(name).unwrap();
        assert_eq!(*image, real.domain(name).unwrap().image);
        image.path = "another".to_owned();
        assert_eq!(other.domain(name).unwrap().image.path, "another");
        let (real, other) = (real.to_xml(""), other.to_xml(""));
        let changed: Vec<_> = real.lines().zip(other.lines()).filter(|(real, other)| real != other).collect();
        assert_eq!(real.lines().count(), other.lines().count());
        let [(_, line)] = changed[..] else { panic!("{name}: {changed:?}") };
        assert_eq!(line.trim(), r#"<program_image path="another"/>"#);
    }
    assert_eq!(real.clone().image_mut("nobody"), None);
}
