//! From [`System`] to plain SDF. On native the devices stay elements, with their kinds.

use std::fmt::{Display, Write};

use super::model::{Channel, Domain, Region, System};

impl System {
    /// The description as the Microkit tool (or `native`) takes it. `origin` goes into a comment.
    pub fn to_xml(&self, origin: &str) -> String {
        // A comment may not hold two dashes.
        let origin = origin.replace("--", "__");
        let mut xml = Xml { text: String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"), depth: 0 };
        xml.text.push_str(&format!("<!-- Made from {origin}. Do not edit. -->\n"));
        xml.nest("system", &[], |xml| {
            self.regions.iter().for_each(|region| write_region(xml, region));
            self.domains.iter().for_each(|domain| write_domain(xml, domain));
            self.channels.iter().for_each(|channel| write_channel(xml, channel));
        });
        xml.text
    }
}

fn write_region(xml: &mut Xml, region: &Region) {
    xml.leaf(
        "memory_region",
        &[
            ("name", text(&region.name)),
            ("size", hex(region.size)),
            ("page_size", region.page_size.and_then(hex)),
            ("phys_addr", region.phys_addr.and_then(hex)),
            ("prefill_path", region.prefill_path.clone()),
        ],
    );
}

fn write_domain(xml: &mut Xml, domain: &Domain) {
    let attributes = [
        ("name", text(&domain.name)),
        ("id", domain.id.and_then(text)),
        ("setvar_id", domain.setvar_id.clone()),
        ("priority", text(domain.priority)),
        ("budget", domain.budget.and_then(text)),
        ("period", domain.period.and_then(text)),
        ("stack_size", domain.stack_size.and_then(hex)),
        ("fpu", domain.fpu.and_then(text)),
    ];
    xml.nest("protection_domain", &attributes, |xml| {
        let image = &domain.image;
        xml.leaf("program_image", &[("path", text(&image.path)), ("path_for_symbols", image.path_for_symbols.clone())]);
        for map in &domain.maps {
            xml.leaf(
                "map",
                &[
                    ("mr", text(&map.region)),
                    ("vaddr", hex(map.vaddr)),
                    ("perms", text(map.perms.name())),
                    ("cached", map.cached.and_then(text)),
                    ("setvar_vaddr", map.setvar_vaddr.clone()),
                    ("setvar_size", map.setvar_size.clone()),
                    ("setvar_prefill_size", map.setvar_prefill_size.clone()),
                ],
            );
        }
        for irq in &domain.irqs {
            xml.leaf(
                "irq",
                &[
                    ("irq", text(irq.irq)),
                    ("id", text(irq.id)),
                    ("trigger", irq.trigger.and_then(|trigger| text(trigger.name()))),
                    ("setvar_id", irq.setvar_id.clone()),
                ],
            );
        }
        for paddr in &domain.paddrs {
            xml.leaf("setvar", &[("symbol", text(&paddr.symbol)), ("region_paddr", text(&paddr.region))]);
        }
        for device in &domain.devices {
            xml.leaf(
                "device",
                &[("name", text(&device.name)), ("kind", device.kind.and_then(|kind| text(kind.name())))],
            );
        }
        domain.children.iter().for_each(|child| write_domain(xml, child));
    });
}

fn write_channel(xml: &mut Xml, channel: &Channel) {
    xml.nest("channel", &[], |xml| {
        for end in &channel.ends {
            let notify = (!end.notify).then(|| "false".to_owned());
            xml.leaf(
                "end",
                &[
                    ("pd", text(&end.domain)),
                    ("id", text(end.id)),
                    ("notify", notify),
                    ("setvar_id", end.setvar_id.clone()),
                ],
            );
        }
    });
}

type Attributes<'a> = &'a [(&'a str, Option<String>)];

fn text(value: impl Display) -> Option<String> {
    Some(value.to_string())
}

fn hex(value: u64) -> Option<String> {
    Some(format!("{value:#x}"))
}

struct Xml {
    text: String,
    depth: usize,
}

impl Xml {
    fn leaf(&mut self, tag: &str, attributes: Attributes<'_>) {
        self.open(tag, attributes, "/>\n");
    }

    fn nest(&mut self, tag: &str, attributes: Attributes<'_>, content: impl FnOnce(&mut Self)) {
        self.open(tag, attributes, ">\n");
        self.depth += 1;
        content(self);
        self.depth -= 1;
        self.indent();
        self.text.push_str(&format!("</{tag}>\n"));
    }

    fn open(&mut self, tag: &str, attributes: Attributes<'_>, end: &str) {
        self.indent();
        self.text.push('<');
        self.text.push_str(tag);
        for (name, value) in attributes {
            if let Some(value) = value {
                self.text.push_str(&format!(" {name}=\"{}\"", escape(value)));
            }
        }
        self.text.push_str(end);
    }

    fn indent(&mut self) {
        let width = 4 * self.depth;
        // Writing to a String does not fail.
        let _ = write!(self.text, "{:width$}", "");
    }
}

fn escape(value: &str) -> String {
    value.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
