//! From text to [`System`]: names, numbers and variables. What the parts mean to each other is checked in
//! [`super::check`].

use std::str::FromStr;

use roxmltree::{Document, Node, NodeType};

use super::{
    board::{Board, DeviceKind},
    model::{Channel, Device, Domain, End, Image, Irq, Map, PaddrOf, Perms, Region, System, Trigger},
    refused::{At, Refused},
};

type Result<T> = std::result::Result<T, Refused>;

pub(crate) fn system(text: &str, board: &Board) -> Result<System> {
    let document = Document::parse(text)
        .map_err(|error| Refused { at: At::Line(error.pos().row), what: format!("not XML: {error}") })?;
    let root = Element::new(&document, board, document.root_element(), &[])?;
    if root.tag() != "system" {
        return root.at.refuse(format!("the root is <{}>, not <system>", root.tag()));
    }
    let mut system = System::default();
    for node in root.children()? {
        match node.tag_name().name() {
            "memory_region" => system.regions.push(region(&root, node)?),
            "protection_domain" => system.domains.push(domain(&root, node)?),
            "channel" => system.channels.push(channel(&root, node)?),
            _ => return root.unknown_child(node),
        }
    }
    Ok(system)
}

fn region<'a>(parent: &Element<'a>, node: Node<'a, 'a>) -> Result<Region> {
    let element = parent.child(node, &["name", "size", "page_size", "phys_addr", "prefill_path"])?;
    element.no_children()?;
    Ok(Region {
        name: element.required("name")?,
        size: element.required_number("size")?,
        page_size: element.number("page_size")?,
        phys_addr: element.number("phys_addr")?,
        prefill_path: element.text("prefill_path"),
        device_of: None,
        at: element.at,
    })
}

fn domain<'a>(parent: &Element<'a>, node: Node<'a, 'a>) -> Result<Domain> {
    let element =
        parent.child(node, &["name", "priority", "budget", "period", "stack_size", "fpu", "id", "setvar_id"])?;
    let mut images = Vec::new();
    let mut domain = Domain {
        name: element.required("name")?,
        priority: element.decimal("priority")?.unwrap_or(0),
        budget: element.number("budget")?,
        period: element.number("period")?,
        stack_size: element.number("stack_size")?,
        fpu: element.flag("fpu")?,
        id: element.decimal("id")?,
        setvar_id: element.text("setvar_id"),
        image: Image { path: String::new(), path_for_symbols: None },
        maps: Vec::new(),
        irqs: Vec::new(),
        paddrs: Vec::new(),
        devices: Vec::new(),
        children: Vec::new(),
        at: element.at,
    };
    for node in element.children()? {
        match node.tag_name().name() {
            "program_image" => images.push(image(&element, node)?),
            "map" => domain.maps.push(map(&element, node)?),
            "irq" => domain.irqs.push(irq(&element, node)?),
            "setvar" => domain.paddrs.push(paddr(&element, node)?),
            "device" => domain.devices.push(device(&element, node)?),
            "protection_domain" => domain.children.push(self::domain(&element, node)?),
            _ => return element.unknown_child(node),
        }
    }
    let [image] = <[Image; 1]>::try_from(images).or_else(|images| {
        element.at.refuse(format!("domain {} has {} program images, not one", domain.name, images.len()))
    })?;
    domain.image = image;
    Ok(domain)
}

fn image<'a>(parent: &Element<'a>, node: Node<'a, 'a>) -> Result<Image> {
    let element = parent.child(node, &["path", "path_for_symbols"])?;
    element.no_children()?;
    Ok(Image { path: element.required("path")?, path_for_symbols: element.text("path_for_symbols") })
}

fn map<'a>(parent: &Element<'a>, node: Node<'a, 'a>) -> Result<Map> {
    let element = parent
        .child(node, &["mr", "vaddr", "perms", "cached", "setvar_vaddr", "setvar_size", "setvar_prefill_size"])?;
    element.no_children()?;
    let region = element.required("mr")?;
    Ok(Map {
        vaddr: element.required_number("vaddr")?,
        perms: perms(&element.required("perms")?, &region, element.at)?,
        cached: element.flag("cached")?,
        setvar_vaddr: element.text("setvar_vaddr"),
        setvar_size: element.text("setvar_size"),
        setvar_prefill_size: element.text("setvar_prefill_size"),
        at: element.at,
        region,
    })
}

/// There is no default: the Microkit tool's would be `rw`.
pub(crate) fn perms(text: &str, region: &str, at: At) -> Result<Perms> {
    match text {
        "r" => Ok(Perms::Read),
        "rw" => Ok(Perms::ReadWrite),
        _ if text.contains('w') && text.contains('x') => {
            at.refuse(format!("region {region} is mapped both writable and executable"))
        }
        _ if text.contains('x') => at.refuse(format!("region {region} is mapped executable: only program images are")),
        _ => at.refuse(format!("perms=\"{text}\" is neither \"r\" nor \"rw\"")),
    }
}

fn irq<'a>(parent: &Element<'a>, node: Node<'a, 'a>) -> Result<Irq> {
    let element = parent.child(node, &["irq", "id", "trigger", "setvar_id"])?;
    element.no_children()?;
    Ok(Irq {
        irq: element.required_decimal("irq")?,
        id: element.required_decimal("id")?,
        trigger: element.text("trigger").map(|text| trigger(&text, element.at)).transpose()?,
        setvar_id: element.text("setvar_id"),
        at: element.at,
    })
}

pub(crate) fn trigger(text: &str, at: At) -> Result<Trigger> {
    match text {
        "level" => Ok(Trigger::Level),
        "edge" => Ok(Trigger::Edge),
        _ => at.refuse(format!("trigger=\"{text}\" is neither \"level\" nor \"edge\"")),
    }
}

fn paddr<'a>(parent: &Element<'a>, node: Node<'a, 'a>) -> Result<PaddrOf> {
    let element = parent.child(node, &["symbol", "region_paddr"])?;
    element.no_children()?;
    Ok(PaddrOf { symbol: element.required("symbol")?, region: element.required("region_paddr")?, at: element.at })
}

fn device<'a>(parent: &Element<'a>, node: Node<'a, 'a>) -> Result<Device> {
    let element = parent.child(node, &["name", "kind"])?;
    element.no_children()?;
    let kind = |text: String| match DeviceKind::from_name(&text) {
        Some(kind) => Ok(kind),
        None => element.at.refuse(format!("there is no kind of device \"{text}\"")),
    };
    Ok(Device { name: element.required("name")?, kind: element.text("kind").map(kind).transpose()?, at: element.at })
}

fn channel<'a>(parent: &Element<'a>, node: Node<'a, 'a>) -> Result<Channel> {
    let element = parent.child(node, &[])?;
    let mut ends = Vec::new();
    for node in element.children()? {
        match node.tag_name().name() {
            "end" => ends.push(end(&element, node)?),
            _ => return element.unknown_child(node),
        }
    }
    let ends = <[End; 2]>::try_from(ends)
        .or_else(|ends| element.at.refuse(format!("a channel has {} ends, not two", ends.len())))?;
    Ok(Channel { ends, at: element.at })
}

fn end<'a>(parent: &Element<'a>, node: Node<'a, 'a>) -> Result<End> {
    let element = parent.child(node, &["pd", "id", "pp", "notify", "setvar_id"])?;
    element.no_children()?;
    if element.flag("pp")? == Some(true) {
        return element.at.refuse("pp=\"true\": there are no protected calls in this system");
    }
    Ok(End {
        domain: element.required("pd")?,
        id: element.required_decimal("id")?,
        notify: element.flag("notify")?.unwrap_or(true),
        setvar_id: element.text("setvar_id"),
        at: element.at,
    })
}

/// An element whose attributes are known names, with variables replaced and empty values gone.
struct Element<'a> {
    document: &'a Document<'a>,
    board: &'a Board,
    node: Node<'a, 'a>,
    attributes: Vec<(&'a str, String)>,
    at: At,
}

impl<'a> Element<'a> {
    fn new(document: &'a Document<'a>, board: &'a Board, node: Node<'a, 'a>, known: &[&str]) -> Result<Self> {
        let at = line(document, node.range().start);
        let mut attributes = Vec::new();
        for attribute in node.attributes() {
            let (name, at) = (attribute.name(), line(document, attribute.range().start));
            if attribute.namespace().is_some() || !known.contains(&name) {
                return at.refuse(format!("<{}> has no attribute {name}", node.tag_name().name()));
            }
            let value = substitute(attribute.value(), board).or_else(|what| at.refuse(format!("{name}: {what}")))?;
            if !value.is_empty() {
                attributes.push((name, value));
            }
        }
        Ok(Self { document, board, node, attributes, at })
    }

    fn child(&self, node: Node<'a, 'a>, known: &[&str]) -> Result<Self> {
        Self::new(self.document, self.board, node, known)
    }

    fn tag(&self) -> &'a str {
        self.node.tag_name().name()
    }

    /// The child elements, if there is nothing but them and comments.
    fn children(&self) -> Result<Vec<Node<'a, 'a>>> {
        let mut elements = Vec::new();
        for node in self.node.children() {
            let at = line(self.document, node.range().start);
            match node.node_type() {
                NodeType::Element if node.tag_name().namespace().is_some() => {
                    return at.refuse(format!("<{}> has a namespace", node.tag_name().name()));
                }
                NodeType::Element => elements.push(node),
                NodeType::Text => {
                    let text = node.text().unwrap_or_default();
                    let blank = text.len() - text.trim_start().len();
                    if blank < text.len() {
                        let at = line(self.document, node.range().start + blank);
                        return at.refuse(format!("text in <{}>", self.tag()));
                    }
                }
                NodeType::PI => return at.refuse(format!("a processing instruction in <{}>", self.tag())),
                _ => {}
            }
        }
        Ok(elements)
    }

    fn no_children(&self) -> Result<()> {
        match self.children()?.first() {
            Some(node) => self.unknown_child(*node),
            None => Ok(()),
        }
    }

    fn unknown_child<T>(&self, node: Node<'_, '_>) -> Result<T> {
        let at = line(self.document, node.range().start);
        at.refuse(format!("<{}> has no element <{}>", self.tag(), node.tag_name().name()))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
    }

    fn required(&self, name: &str) -> Result<String> {
        self.text(name).map_or_else(|| self.at.refuse(format!("<{}> needs the attribute {name}", self.tag())), Ok)
    }

    /// Decimal or `0x` hexadecimal, with `_` anywhere.
    fn number(&self, name: &str) -> Result<Option<u64>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let digits = text.replace('_', "");
        let number = match digits.strip_prefix("0x") {
            Some(hex) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16).ok(),
            None if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        };
        number.map_or_else(|| self.at.refuse(format!("{name}=\"{text}\" is no number")), |number| Ok(Some(number)))
    }

    fn required_number(&self, name: &str) -> Result<u64> {
        self.required(name)?;
        Ok(self.number(name)?.unwrap_or_default())
    }

    /// Plain decimal: where the Microkit tool takes nothing else.
    fn decimal<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        number.map_or_else(
            || self.at.refuse(format!("{name}=\"{text}\" is no plain decimal number in range")),
            |number| Ok(Some(number)),
        )
    }

    fn required_decimal<T: FromStr + Default>(&self, name: &str) -> Result<T> {
        self.required(name)?;
        Ok(self.decimal(name)?.unwrap_or_default())
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        match self.text(name).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(text) => self.at.refuse(format!("{name}=\"{text}\" is neither \"true\" nor \"false\"")),
        }
    }
}

fn line(document: &Document<'_>, offset: usize) -> At {
    At::Line(document.text_pos_at(offset).row)
}

/// Replaces each `${name}`. What a variable brings is not looked at again.
fn substitute(value: &str, board: &Board) -> std::result::Result<String, String> {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, tail) = after.split_once('}').ok_or("${ without }")?;
        out.push_str(before);
        out.push_str(&board.var(name).ok_or_else(|| format!("the board does not define ${{{name}}}"))?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}
